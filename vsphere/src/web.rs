//! HTTPS to a system whose certificate is known by its authority or by its fingerprint.
