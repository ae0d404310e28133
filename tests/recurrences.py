"""Recurrences that several files of tests run."""

import numpy as np

import rgraph as C


def conv_gru(x):
    w, u = (C.layers.Convolution((3, 3), 6, pad=True) for _ in range(2))
    c = C.layers.Convolution((3, 3), 3, pad=True)

    def step(h, x):
        gates = C.sigmoid(w(x) + u(h))
        z, r = gates[0:3], gates[3:6]
        return z * h + (1 - z) * C.tanh(c(C.splice(x, r * h, axis=0)))

    return C.layers.Recurrence(step, initial_state=np.full((3, 5, 4), 0.1, np.float32))(x)


def by_hand(x):
    state = C.placeholder(name="state")
    now = C.tanh(C.layers.Dense(4)(x) + C.sequence.past_value(state, 0.5, 2))
    return now.replace_placeholders({state: now})
