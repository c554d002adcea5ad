//! Cross-crate tests: crash, faults, compatibility, real clients.
