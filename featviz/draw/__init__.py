"""Pictures that excite units: canvases, objectives, the optimisation loop, certificates."""
