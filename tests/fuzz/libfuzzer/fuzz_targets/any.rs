//! One program for all targets: the environment variable says which, so that a new one costs no build.
#![no_main]

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("ROOKERY_FUZZ_TARGET").expect("ROOKERY_FUZZ_TARGET names the target");
        rookery_fuzz::target(&name).expect("a target of rookery-fuzz")
    });
    target(octets);
});
