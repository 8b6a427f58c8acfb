//! cache-policy
