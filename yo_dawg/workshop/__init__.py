"""Programs that control starts, without credentials of AWS: all that touches foreign bytes."""
