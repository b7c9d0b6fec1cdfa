"""The library behind the stages, in packages by subject.

A package imports only from those above it:

- base: errors, files, the cache, progress, threads; no torch, and nothing that shapes a result.
- data: raw data in one form, decoded pixels, views.
- sources: where raw data and backbones come from; the only package that knows Flowers-102.
- compute: torch's device, deterministic arithmetic, several processes.
- models: networks, what of them is frozen, files of trained models.
- training: the loop over epochs, checkpoints, evaluation.
- figures: the look of figures, and the figures.
- explore, explain, report, export: what the stages of these names need.

params.py has the schema of params.yaml. predict.py uses a trained model, try_model.py shows it on
a page.
"""
