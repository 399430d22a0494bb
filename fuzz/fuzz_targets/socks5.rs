#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| moorgate_fuzz::socks5::check(data));
