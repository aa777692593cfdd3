//! Which files of a folder belong to which volume.
