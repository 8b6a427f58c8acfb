//! Who signed a text, and whether that counts: `OpenPGP` (RFC 9580) keys, octets and a time go in, a verdict comes out.
//!
//! Start reading at [`Certificates::parse`] and [`cleartext::verify`]. The crate `pgp` reads packets and checks
//! signatures arithmetically; which of them count is decided here, as `GnuPG` decides it:
//!
//! 1. A file of keys becomes [`Certificates`]: each key with what its own self-signatures say of it (`certificate`,
//!    `binding`), checked once.
//! 2. What they say at a time is read off without any arithmetic (`validity`).
//! 3. Every signature of a text must be good by one of these keys (`signature`); one bad one spoils the good ones.
//!
//! There are no files, clocks or randomness here, and no trust model: a key counts because it is in the file.

mod armour;
mod binding;
mod certificate;
pub mod cleartext;
pub mod commit;
mod packets;
mod policy;
mod refusal;
mod ring;
mod signature;
mod validity;

pub use refusal::{KeysError, Reason, Refusal};
pub use ring::{BYTES_MAX as KEYS_BYTES_MAX, Certificates};
pub use signature::Signer;
pub use validity::Until;
