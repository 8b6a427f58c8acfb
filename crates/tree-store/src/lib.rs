//! tree-store
