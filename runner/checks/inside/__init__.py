"""What runs inside the checks' containers: read here as text, never imported. For Python 3.6 and pytest 4, or newer."""
