//! farm-sim
