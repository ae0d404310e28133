"""What `mpirun` starts in test_distributed.py: a program as people write it.

    mpirun -n 2 python workers_program.py FOLDER [--do WHAT] [--sequences N] [--resume]
        [--bucket BYTES]

Each worker writes what it found to FOLDER/RANK.json.
"""

import argparse
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

import rgraph as C
from rgraph.train import exchange


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--do", default="")
    parser.add_argument("--sequences", type=int, default=160)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--bucket", type=int, default=exchange.BUCKET)
    args = parser.parse_args()
    exchange.BUCKET = args.bucket
    rank, count = C.Communicator.rank(), C.Communicator.num_workers()

    assert ("mpi4py" in sys.modules) == (count > 1), "one process needs no MPI"
    C.set_seed(1)
    rng = np.random.default_rng(0)
    films = [rng.normal(size=(n, 1, 4, 4)).astype(np.float32) for n in rng.integers(1, 6, 40)]
    labels = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 40)]

    def step(h, x):
        return C.tanh(C.convolution(w, x) + C.convolution(u, h))

    x, t = C.sequence.input_variable((1, 4, 4), name="x"), C.input_variable(2, name="t")
    w = C.Parameter((3, 1, 3, 3), init=C.glorot_uniform(), name="W")
    u = C.Parameter((3, 3, 3, 3), init=C.glorot_uniform(), name="U")
    h = C.layers.Recurrence(step, initial_state=C.constant(0, (3, 4, 4)))(x)
    y = C.layers.Dense(2)(C.sequence.last(h))
    loss, error = C.cross_entropy_with_softmax(y, t), C.classification_error(y, t)
    learner = C.adam(y.parameters, C.learning_parameter_schedule(0.01), momentum=0.9)
    learner = C.train.distributed.data_parallel_distributed_learner(learner)

    class Fault(C.logging.ProgressWriter):
        """Goes wrong in the fifth step of rank 1."""

        def on_training_update_end(self):
            if rank != 1 or self.total_training_updates() != 5:
                return
            if args.do == "be killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if args.do == "raise":
                raise ValueError("this worker has no more")
            if args.do == "leave":
                sys.exit()
            if args.do == "drift":
                w.value = np.nextafter(w.value, 1)

    writers = [C.logging.ProgressPrinter(tag="all"), Fault()]
    trainer = C.Trainer(y, (loss, error), [learner], writers)
    films_of_all = C.io.MinibatchSourceFromData({"x": (films, x), "t": labels})
    file = args.folder / "checkpoint"
    if not args.resume:
        file.unlink(missing_ok=True)
    C.training_session(
        trainer,
        films_of_all,
        mb_size=20,
        model_inputs_to_streams={x: films_of_all["x"], t: films_of_all["t"]},
        max_samples=args.sequences,
        progress_frequency=80,
        checkpoint_config=C.CheckpointConfig(str(file), (2, C.train.DataUnit.minibatch)),
    ).train()

    learner.communicator().barrier()
    found = {
        "count": count,
        "workers": [d.global_rank for d in learner.communicator().workers()],
        "seen": trainer.total_number_of_samples_seen,
        "loss": trainer.previous_minibatch_loss_average,
        "error": trainer.previous_minibatch_evaluation_average,
        "values": [p.value.ravel().tolist() for p in y.parameters],
    }
    (args.folder / f"{rank}.json").write_text(json.dumps(found))
    C.Communicator.finalize()


if __name__ == "__main__":
    main()
