//! Bodies, files and texts that are broken.
