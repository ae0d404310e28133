"""Devices under CNTK's names."""

import rgraph as C


def test_the_cpu_is_there_and_can_be_chosen_but_not_locked():
    cpu = C.device.cpu()
    assert cpu in C.device.all_devices() and cpu != C.device.gpu(0)
    assert cpu.type() == C.device.DeviceKind.CPU and cpu.id() == 0
    assert C.device.gpu(1).type() == C.device.DeviceKind.GPU
    assert C.try_set_default_device(cpu) and C.use_default_device() == cpu
    assert not C.try_set_default_device(cpu, True) and not cpu.is_locked()
