//! proxy-cache

pub mod catalogue;
pub mod farm;
