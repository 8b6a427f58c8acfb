//! rookery-tests
