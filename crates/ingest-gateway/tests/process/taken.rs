//! What another process has: a port.

use std::{fs, net::TcpListener};

use crate::place::Place;

#[test]
fn a_port_that_another_process_has_is_named_and_later_it_may_work() {
    let place = Place::new();
    place.configure("");
    let config = fs::read_to_string(place.config()).unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    for key in ["addr", "adminAddr"] {
        let free = format!("  {key}: 127.0.0.1:0\n");
        assert!(config.contains(&free), "{config}");
        let config = config.replace(&free, &format!("  {key}: {taken}\n"));
        fs::write(place.config(), config).unwrap();
        let output = place.output(&[]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(75), "{key}: {said}");
        assert!(said.contains(&taken.to_string()), "{said}");
    }
}
