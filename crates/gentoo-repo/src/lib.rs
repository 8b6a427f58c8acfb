//! gentoo-repo
