//! proxy-cache
