"""Train one of the example's networks on handwritten digits and export it to ONNX.

    pip install -e '.[train]'
    python examples/digits/train.py --network mobilenetv2 --output examples/digits/digits-mobilenetv2.onnx

Learns from the 1,000 training digits only, drawn anew with other colours, sizes and places in every epoch,
for a number of epochs fixed beforehand, and keeps the last weights. The 797 held-out digits are looked at
once, after that, through ONNX Runtime on the exported file: their accuracy is printed and written into its
metadata. To try other settings use ``--validation``, which sets training digits aside and leaves the held-out
ones alone.
"""

from __future__ import annotations

import argparse
import io
import platform
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run from a checkout that is not installed

from networks import NETWORKS, Recipe

from calibration.digits import load_strokes, render_digit, split_digits, stratified_subset
from quantize.files import atomic_write_bytes
from quantize.session import make_session, outputs

BATCH_SIZE = 32
# Nesterov momentum, one cycle. AdamW at 0.003 to 0.01 left MobileNetV2 guessing after seven epochs and more;
# this gets half of the training pictures right after six.
PEAK_LEARNING_RATE = 0.05
MOMENTUM = 0.9
WEIGHT_DECAY = 2e-4
LABEL_SMOOTHING = 0.05
FIRST_TRAINING_SEED = 10_000  # above every digit's number, which are the seeds of the demo's own pictures

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def draw(indices: Labels, first_seed: int = 0) -> tuple[Images, Labels]:
    """Pictures of the given digits as the network sees them, ``float32 [n, 3, 64, 64]`` in -1..1, and labels.

    The same values as Rescale (1/255), Normalize (mean 0.5, std 0.5) and Transpose give in the pipeline. The
    seed of a picture is ``first_seed`` plus the number of its digit.
    """
    strokes, labels = load_strokes()
    pictures = np.stack([render_digit(strokes[i], first_seed + int(i)) for i in indices])
    scaled = (pictures.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)), labels[indices]


def train(network: nn.Module, indices: Labels, *, epochs: int, seed: int) -> None:
    """Fit ``network`` in place to pictures of the given digits, new ones in each epoch."""
    random = np.random.RandomState(seed)
    optimizer = torch.optim.SGD(
        network.parameters(), PEAK_LEARNING_RATE, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        PEAK_LEARNING_RATE,
        epochs=epochs,
        steps_per_epoch=-(-indices.size // BATCH_SIZE),
        cycle_momentum=False,
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    # Depthwise convolutions train almost twice as fast on a CPU with channels innermost.
    network.to(memory_format=torch.channels_last)
    network.train()
    started = time.perf_counter()
    for epoch in range(epochs):
        total_loss, correct = 0.0, 0
        first_seed = FIRST_TRAINING_SEED * (1 + seed * epochs + epoch)
        for batch in np.array_split(random.permutation(indices), -(-indices.size // BATCH_SIZE)):
            images, labels = (torch.from_numpy(array) for array in draw(batch, first_seed))
            optimizer.zero_grad()
            logits = network(images).flatten(1)
            loss = loss_of(logits, labels)
            loss.backward()
            optimizer.step()
            schedule.step()
            total_loss += loss.item() * batch.size
            correct += int((logits.argmax(1) == labels).sum())
        print(
            f"epoch {epoch + 1:3}/{epochs}  loss {total_loss / indices.size:.4f}"
            f"  training {correct / indices.size:.1%}  {time.perf_counter() - started:.0f} s",
            flush=True,
        )


def export(network: nn.Module, recipe: Recipe, sample: Images) -> onnx.ModelProto:
    """Trace to ONNX as the recipe says; ``sample`` is a batch of any size."""
    network.eval()
    buffer = io.BytesIO()
    mode = torch.onnx.TrainingMode.EVAL if recipe.folds_batch_norm else torch.onnx.TrainingMode.PRESERVE
    free = {"input": {0: "N"}, "output": {0: "N"}} if recipe.batch_size is None else None
    with warnings.catch_warnings():
        # The tracing exporter is deprecated, but the one that folds BatchNorm and writes opset 12 directly.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.from_numpy(sample[: recipe.batch_size]),),
            buffer,
            training=mode,
            opset_version=recipe.opset,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=free,
            dynamo=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    constants_to_initializers(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def constants_to_initializers(model: onnx.ModelProto) -> None:
    """Store each distinct Constant once, as an initializer: the exporter repeats 0 and 6 for every Clip."""
    graph = model.graph
    names: dict[bytes, str] = {}  # content of a constant -> the initializer that holds it
    renamed: dict[str, str] = {}
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(node.attribute[0].t)
        tensor.name = ""
        content = tensor.SerializeToString(deterministic=True)
        if content not in names:
            names[content] = tensor.name = f"constant_{len(names)}"
            graph.initializer.append(tensor)
        renamed[node.output[0]] = names[content]
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def logits_of(model: onnx.ModelProto, images: Images) -> Images:
    """The exported model's own answers, ``float32 [n, 10]``."""
    session = make_session(model, threads=1)
    parts = np.array_split(images, 16)
    return np.concatenate([outputs(session, part) for part in parts]).astype(np.float32, copy=False)


def describe(model: onnx.ModelProto, facts: Mapping[str, object]) -> None:
    """Write ``facts`` into the model's metadata, as ``digits.<name>``."""
    onnx.helper.set_model_props(model, {f"digits.{name}": str(value) for name, value in facts.items()})


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--network", choices=sorted(NETWORKS), default="mobilenetv2")
    parser.add_argument("--output", type=Path, help="default: digits-<network>.onnx beside this script")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and pictures")
    parser.add_argument("--threads", type=int, default=1, help="sums depend on it in the last digits")
    parser.add_argument(
        "--validation",
        type=int,
        default=0,
        metavar="N",
        help="set N training digits aside, report on them and write nothing: for trying settings",
    )
    return parser.parse_args()


def main() -> None:
    """Train, export, compare, measure and save."""
    arguments = parse_arguments()
    torch.manual_seed(arguments.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(arguments.threads)
    labels = load_strokes()[1]
    training, measured = split_digits(labels)
    if arguments.validation:
        measured = stratified_subset(labels, training, arguments.validation, arguments.seed)
        training = np.setdiff1d(training, measured, assume_unique=True)
    recipe = NETWORKS[arguments.network]
    network = recipe.build()
    train(network, training, epochs=arguments.epochs, seed=arguments.seed)

    images, expected = draw(measured)
    model = export(network, recipe, images[:2])
    logits = logits_of(model, images)
    with torch.no_grad():
        difference = float(np.abs(network(torch.from_numpy(images)).flatten(1).numpy() - logits).max())
    correct = int((logits.argmax(axis=1) == expected).sum())
    name = "validation" if arguments.validation else "held-out"
    print(f"largest difference between PyTorch and ONNX Runtime: {difference:.2g}")
    print(f"{name} accuracy: {correct / expected.size:.2%} ({correct} of {expected.size})")
    if arguments.validation:
        return
    output = arguments.output or Path(__file__).with_name(f"digits-{arguments.network}.onnx")
    facts = {
        "network": arguments.network,
        "width_multiplier": getattr(network, "width_multiplier", "none"),
        "dataset": "scikit-learn load_digits, drawn by calibration/digits.py",
        "preprocessing": "x / 255, then (x - 0.5) / 0.5; RGB, NCHW, 64x64",
        "training_digits": training.size,
        "held_out_digits": expected.size,
        "held_out_correct": correct,
        "held_out_accuracy": f"{correct / expected.size:.6f}",
        "epochs": arguments.epochs,
        "seed": arguments.seed,
        "threads": arguments.threads,
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {np.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}",
    }
    describe(model, facts)
    atomic_write_bytes(output, model.SerializeToString(deterministic=True))
    print(f"{output}: {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
