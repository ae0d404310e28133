"""Commands on programs and models of CNTK's, and on rgraph's own.

python -m rgraph run SCRIPT.py [ARGUMENT …]   run a program that says `import cntk`
python -m rgraph convert IN OUT               save a model of CNTK's (or ours) in our format,
                                              or as ONNX where OUT ends with .onnx
python -m rgraph info FILE                    what a model is: inputs, outputs, layers, size
"""

import importlib
import os
import runpy
import sys


def run(script: str, *arguments: str) -> None:
    """Runs the script as Python itself would, with rgraph where it looks for CNTK."""
    if not os.path.exists(script):
        sys.exit(f"there is no file {script!r}")
    stand_in_for_cntk()
    sys.argv = [script, *arguments]
    root = os.path.dirname(os.path.abspath(__file__))
    # New processes that the program starts, as multiprocessing does, look in the same places.
    here = os.path.dirname(os.path.abspath(script))
    sys.path[:1] = [here, os.path.join(root, "surface", "on_path")]
    sys.path.append(os.path.dirname(root))
    runpy.run_path(script, run_name="__main__")


def stand_in_for_cntk() -> None:
    """Lets `import cntk` give rgraph, and takes no offence where programs rely on CNTK's taking
    none: NaN does not end a training, and `if metric:` asks whether there is one."""
    cntk = importlib.import_module("rgraph.cntk")
    cntk.set_global_option("on_nan", "ignore")
    cntk.set_global_option("values_are_true", True)


def convert(source: str, target: str) -> None:
    """Saves a model in another format."""
    import rgraph as C

    onnx = target.endswith(".onnx")
    model = C.load_model(source)
    model.save(target, format=C.ModelFormat.ONNX if onnx else C.ModelFormat.CNTKv2)


def info(file: str) -> None:
    """Prints what a model is."""
    import rgraph as C
    from rgraph.graph.node import describe

    model = C.load_model(file)
    print(f"{file}: {os.path.getsize(file):,} bytes")
    for title, variables in ("input", model.arguments), ("output", model.outputs):
        for v in variables:
            print(f"{title}: {describe(v.node)}")
    print(model.summary())


def main() -> None:
    name, *arguments = sys.argv[1:] or [""]
    if name == "run" and arguments:
        run(*arguments)
        return
    try:
        if name == "convert" and len(arguments) == 2:
            convert(*arguments)
        elif name == "info" and len(arguments) == 1:
            info(*arguments)
        else:
            sys.exit(__doc__)
    except (OSError, ValueError) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
