#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| moorgate_fuzz::profile::check(data));
