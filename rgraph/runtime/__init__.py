"""From what is fed to values: minibatches, runs, streams."""
