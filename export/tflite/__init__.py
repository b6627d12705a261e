"""TensorFlow Lite files, written from the deploy form by means of the published schema."""
