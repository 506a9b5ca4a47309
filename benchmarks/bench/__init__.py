"""What `edgeemo bench` needs: measure a bundle, report, compare. In the wheel."""
