"""The promises, in one module for each row or group of rows; `proving.promises` finds them by looking here."""
