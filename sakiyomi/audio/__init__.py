"""Sound: files, samples and spectra."""
