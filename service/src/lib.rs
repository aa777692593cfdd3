//! Protects App Volumes disks: the stackferry program
