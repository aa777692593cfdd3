//! Finds App Volumes disks and says what is new, changed, gone, and whether it may be copied
