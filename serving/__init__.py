"""The model server: one bundle, SageMaker's protocol, one process on one core."""
