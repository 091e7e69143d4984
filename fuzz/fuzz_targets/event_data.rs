//! The check of event data: what is JSON for others is taken, to the letter, and
//! what is taken can stand inside other JSON.
#![no_main]

use futoin_eventstream::event::EventData;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let others = serde_json::from_str::<serde_json::Value>(&text).is_ok();
    match EventData::parse(text.clone()) {
        Ok(data) => {
            assert_eq!(data.as_str(), text);
            EventData::parse(format!("[{text}]")).expect("JSON in JSON");
        }
        Err(_) => assert!(!others, "refused, and is JSON"),
    }
});
