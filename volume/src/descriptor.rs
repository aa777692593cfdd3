//! The text that describes a virtual disk: `Office.vmdk` beside `Office-flat.vmdk`.
