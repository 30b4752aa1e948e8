from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import search
from featviz import Model
from featviz.errors import UserError
from featviz.network.models import Preprocess
from search.images.bands import Bands
from search.images.decode import UndecodableError
from search.images.dicom import read_dicom
from search.images.images import open_images
from search.images.pictures import open_picture

nibabel: Any = pytest.importorskip("nibabel")
pydicom: Any = pytest.importorskip("pydicom")


def _dicom(file: Path, stored: NDArray[Any], *, bits: int = 12, **said: Any) -> Path:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset(str(file), {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.Rows, made.Columns = stored.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, bits, bits - 1
    made.PixelRepresentation = int(stored.dtype.kind == "i")
    for name, value in said.items():
        setattr(made, name, value)
    made.PixelData = stored.tobytes()
    made.save_as(file)
    return file


def _grey(**said: Any) -> Preprocess:
    return Preprocess((20, 30), (0.5,), (0.5,), crop=1.0, **said)


def test_an_image_of_dicom_lies_in_the_range_of_its_bits_and_white_zero_is_turned_round(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (20, 30), np.uint16)
    plain = read_dicom(_dicom(tmp_path / "a.dcm", stored))[0]
    turned = read_dicom(_dicom(tmp_path / "b.dcm", stored, PhotometricInterpretation="MONOCHROME1"))[0]
    assert np.allclose(plain, stored / 4095)
    assert np.allclose(turned, 1 - stored / 4095)
    signed = stored.astype(np.int16) - 2048
    assert np.allclose(read_dicom(_dicom(tmp_path / "c.dcm", signed))[0], (signed + 2048) / 4095)


def test_hounsfield_units_need_their_range(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 4096, (20, 30), np.uint16)
    file = _dicom(tmp_path / "ct.dcm", stored, RescaleSlope="2", RescaleIntercept="-1024")
    with pytest.raises(UserError, match="say which numbers mean 0 and 1"):
        open_picture(file, _grey())
    found = open_picture(file, _grey(range=(-1000, 400)))
    assert isinstance(found, Bands)
    assert np.allclose(found.values[0], ((stored * 2.0 - 1024 + 1000) / 1400).clip(0, 1), atol=1e-6)


def test_what_is_no_single_image_of_dicom_is_told(tmp_path: Path) -> None:
    stored = np.zeros((3, 20, 30), np.uint16)
    with pytest.raises(UndecodableError, match="it holds 3 frames"):
        read_dicom(_dicom(tmp_path / "cine.dcm", stored, NumberOfFrames=3))
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    with pytest.raises(UndecodableError):
        read_dicom(tmp_path / "broken.dcm")


def _volume(file: Path, values: NDArray[Any], affine: NDArray[Any] | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), file)
    return file


def test_a_volume_is_its_slices_with_the_front_up_however_the_file_holds_it(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((6, 5, 4), np.float32)  # right, front, top
    images = open_images(str(_volume(tmp_path / "brain.nii.gz", values)))
    assert images.names == tuple(f"brain.nii.gz/{number:04d}" for number in range(4))
    # Stored top first, and from right to left.
    other = _volume(
        tmp_path / "turned.nii",
        np.ascontiguousarray(values[::-1].transpose(2, 0, 1)),
        np.array([[0, -1, 0, 5], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float),
    )
    turned = open_images(other)
    for number in range(4):
        found = images.picture(number, Preprocess((5, 6), (0.5,), (0.5,)))
        again = turned.picture(number, Preprocess((5, 6), (0.5,), (0.5,)))
        assert isinstance(found, Bands)
        assert isinstance(again, Bands)
        # The first row is the front of the volume.
        assert np.array_equal(found.values[0], values[:, ::-1, number].T)
        assert np.array_equal(found.values, again.values)


def test_exemplars_of_a_folder_of_volumes_name_the_slice(tmp_path: Path) -> None:
    import torch
    from torch import nn

    for number, name in enumerate(("a", "b")):
        values = np.full((16, 16, 5), 100, np.int16)
        values[4:12, 4:12, 2 + number] = 900
        _volume(tmp_path / f"{name}.nii", values)
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten())
    with torch.no_grad():
        network[0].weight.fill_(1.0)  # type: ignore[operator, union-attr]
    model = Model.wrap(network.eval(), size=16, mean=(0.5,), std=(0.5,), range=(0, 1000), crop=1.0)
    found = search.exemplars(model, tmp_path, ["0"], k=2)
    assert {entry.name for entry in found.of("0", 0)} == {"a.nii/0002", "b.nii/0003"}


def test_a_volume_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"no volume")
    with pytest.raises(UserError, match="cannot be read"):
        open_images(tmp_path / "a.nii")
    _volume(tmp_path / "a.nii", np.zeros((4, 4, 4, 2), np.float32))
    with pytest.raises(UserError, match="has 4 dimensions"):
        open_images(tmp_path / "a.nii")
    flat = bytearray(_volume(tmp_path / "a.nii", np.zeros((4, 4, 4), np.float32)).read_bytes())
    flat[254:256], flat[312:328] = b"\x01\x00", bytes(16)  # sform_code, srow_z: no slice lies above another
    (tmp_path / "a.nii").write_bytes(flat)
    with pytest.raises(UserError, match="cannot be read"):
        open_images(tmp_path / "a.nii")


def test_volumes_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for patient in ("anna", "bert"):
        (tmp_path / patient).mkdir()
        _volume(tmp_path / patient / "t1.nii", np.zeros((4, 4, 2), np.int16))
    assert open_images(tmp_path).names == (
        "anna/t1.nii/0000", "anna/t1.nii/0001", "bert/t1.nii/0000", "bert/t1.nii/0001",
    )  # fmt: skip
