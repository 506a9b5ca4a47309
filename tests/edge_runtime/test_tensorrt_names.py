"""Every name of TensorRT that we use exists in the real library (``tensorrt_rtx``, whose interface is the same)."""

import pytest

from tests.conftest import need


@pytest.mark.parametrize(("ours", "theirs"), [("_Engine", "ICudaEngine"), ("_Execution", "IExecutionContext")])
def test_the_simulation_offers_nothing_that_is_not_real(ours, theirs):
    need("tensorrt_rtx")
    import tensorrt_rtx as real

    from tests import simulated_tensorrt

    own = {name for name in vars(getattr(simulated_tensorrt, ours)) if not name.startswith("_")}
    assert own
    assert own <= set(dir(getattr(real, theirs)))
