"""A stand-in for ROS 2's `rclpy`, `std_msgs` and `audio_common_msgs`, which pip cannot install: what the example calls.

One node in one process. `spin_once` delivers the next of the given messages, and stands for Ctrl-C after the last one.
Publishing after the shutdown fails, as it does in ROS. That the node runs under ROS, it does not show.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any


@dataclass
class String:
    data: str


@dataclass
class AudioData:
    data: array.array[int]


@dataclass
class StandInRos:
    """The parameters and messages that the node receives, and what it does."""

    parameters: dict[str, Any]
    messages: list[AudioData]
    published: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    acknowledged: bool = False
    running: bool = False
    receive: Callable[[AudioData], None] | None = None

    def modules(self) -> dict[str, ModuleType]:
        """Return the modules by name, for `sys.modules`."""
        parts: dict[str, dict[str, Any]] = {
            "rclpy": {
                "init": self._init,
                "shutdown": self._shutdown,
                "create_node": self._node,
                "spin_once": self._spin,
            },
            "rclpy.duration": {"Duration": lambda *, seconds: seconds},
            "rclpy.qos": {
                "QoSProfile": lambda *, history, reliability: (history, reliability),
                "HistoryPolicy": SimpleNamespace(KEEP_ALL="keep all"),
                "ReliabilityPolicy": SimpleNamespace(RELIABLE="reliable"),
            },
            "rclpy.signals": {"SignalHandlerOptions": SimpleNamespace(NO="none")},
            "std_msgs": {},
            "std_msgs.msg": {"String": String},
            "audio_common_msgs": {},
            "audio_common_msgs.msg": {"AudioData": AudioData},
        }
        made = {name: ModuleType(name) for name in parts}
        for name, content in parts.items():
            vars(made[name]).update(content)
        return made

    def _init(self, *, args: Iterable[str], signal_handler_options: str) -> None:
        assert signal_handler_options == "none", "rclpy's own handlers shut down before the last events are published"
        self.running = True

    def _shutdown(self) -> None:
        self.running = False

    def _node(self, name: str) -> Any:
        return SimpleNamespace(
            declare_parameter=lambda key, default: SimpleNamespace(value=self.parameters.get(key, default)),
            create_publisher=lambda kind, topic, qos: self._publisher(kind, topic.replace("~", f"/{name}")),
            create_subscription=self._subscribe,
            get_logger=lambda: SimpleNamespace(info=lambda text: None, error=self.errors.append),
            destroy_node=lambda: None,
        )

    def _publisher(self, kind: type, topic: str) -> Any:
        published = self.published.setdefault(topic, [])

        def publish(message: Any) -> None:
            assert isinstance(message, kind)
            if not self.running:
                raise RuntimeError("publisher's context is invalid")
            published.append(message.data)

        def wait_for_all_acked(timeout: float) -> bool:
            self.acknowledged = self.running and timeout > 0
            return self.acknowledged

        return SimpleNamespace(publish=publish, wait_for_all_acked=wait_for_all_acked)

    def _subscribe(self, kind: type, topic: str, callback: Callable[[AudioData], None], qos: object) -> None:
        assert (kind, topic) == (AudioData, "audio")
        self.receive = callback

    def _spin(self, node: object, *, timeout_sec: float) -> None:
        assert self.receive is not None
        if not self.messages:
            raise KeyboardInterrupt
        self.receive(self.messages.pop(0))
