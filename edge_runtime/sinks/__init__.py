"""Event sinks: standard output, terminal, file, MQTT and a web page."""
