"""The library behind the stages, in rooms by subject. A room imports only from those that stand before it:

- base: files, errors, arrays, threads, devices; nothing about images or networks.
- data: raw data in one form, images, pixels, views.
- sources: where raw data and backbones come from; the only room that knows Flowers-102 or a network address.
- models: networks, what of them is frozen, stored features, Grad-CAM, model files.
- training: the training loop, checkpoints, evaluation.
- report: tables, intervals, figures, explanations.

Each room has the schema of its part of params.yaml in params.py; pipeline/params.py is the whole. predict.py uses a
trained model.
"""
