"""Run Python on this processor without AMX: ``python without_amx.py ARGUMENTS OF PYTHON``.

ONNX Runtime requests permission for AMX (``arch_prctl``, ``ARCH_REQ_XCOMP_PERM``) and uses AVX512-VNNI where it is
refused. A filter of system calls refuses it to this process and its children. Linux on x86-64 only; nothing is
emulated, so latency is meaningful.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

_SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_ARCH_PRCTL, _ASK_FOR_PERMISSION = 158, 0x1023
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _FIRST_ARGUMENT = 0, 16
_NOT_PERMITTED, _ALLOW = 0x0005_0001, 0x7FFF_0000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def refuse_amx() -> None:
    """Install a filter that refuses AMX.

    Raises:
        OSError: the kernel does not accept the filter.
    """
    instructions = (
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_IF_EQUAL, 0, 3, _ARCH_PRCTL),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_JUMP_IF_EQUAL, 0, 1, _ASK_FOR_PERMISSION),
        (_RETURN, 0, 0, _NOT_PERMITTED),
        (_RETURN, 0, 0, _ALLOW),
    )
    content = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in instructions))
    program = _Program(len(instructions), ctypes.addressof(content))
    system = ctypes.CDLL(None, use_errno=True)
    if system.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or system.prctl(
        _SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel does not accept a filter of system calls")


if __name__ == "__main__":
    refuse_amx()
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
