"""divek: vision-language models that tell look-alike classes apart, as a pipeline of eight stages."""
