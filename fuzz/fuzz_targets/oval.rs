#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fettle_fuzz::try_target("oval", bytes));
