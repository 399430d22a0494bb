#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| moorgate_fuzz::proxy_header::check(data));
