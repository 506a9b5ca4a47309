"""A ROS 2 node (Humble or newer): audio in, emotion events out as JSON in std_msgs/String.

    sudo apt-get install ros-humble-audio-common-msgs ros-humble-audio-capture
    python3 -m edge_runtime.examples.ros2_node --ros-args -r audio:=/audio/audio -p rate:=16000
    ros2 topic echo --full-length /edgeemo/events

It subscribes to `audio`: audio_common_msgs/AudioData with 16-bit little-endian mono PCM, as `audio_capture_node` sends
with `format:=wave`. Parameters: `rate`, samples per second, and `bundle`, a directory. Messages are kept until they are
received, and a worker thread scores them; what its queue cannot hold is reported as a `gap`.
"""

from __future__ import annotations

import signal
import sys

import numpy as np
import rclpy
from audio_common_msgs.msg import AudioData
from rclpy.duration import Duration
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from edge_runtime import Event, load
from edge_runtime.examples.callback import Capture

KEPT = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE)


def main() -> None:
    """Run the node until Ctrl-C or SIGTERM, which ends the stream: its last events are published too."""
    # rclpy's own handlers would end the connection before the last events are published.
    rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    node = rclpy.create_node("edgeemo")
    rate = node.declare_parameter("rate", 16_000).value
    bundle = node.declare_parameter("bundle", "").value or None
    publisher = node.create_publisher(String, "~/events", KEPT)

    def publish(event: Event) -> None:
        publisher.publish(String(data=event.model_dump_json()))

    def receive(message: AudioData) -> None:
        sound = bytes(message.data)
        if len(sound) % 2:
            node.get_logger().error("a message holds half a sample, which is left out; is it 16-bit PCM?")
        capture.take(np.frombuffer(sound, "<i2", count=len(sound) // 2))

    with load(bundle) as model:
        capture = Capture(model, rate, publish)
        node.create_subscription(AudioData, "audio", receive, KEPT)
        try:
            while capture.running:
                rclpy.spin_once(node, timeout_sec=0.1)
        except KeyboardInterrupt:
            node.get_logger().info("ending")
        finally:
            capture.close()
            publisher.wait_for_all_acked(Duration(seconds=2))
            node.destroy_node()
            rclpy.shutdown()


if __name__ == "__main__":
    main()
