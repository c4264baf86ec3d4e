"""From image files to the float32 batches that calibration and evaluation run on.

The rooms, in the order the data flows: `images` finds and opens the files, `split` picks two disjoint
subsets, `transforms` turns an image into an array, `dataloader` does it in parallel and batches, `progress`
shows how far it is.

Nothing is imported here, so that importing the package costs nothing; import the rooms by their own names.
This package never imports `quantize`.
"""
