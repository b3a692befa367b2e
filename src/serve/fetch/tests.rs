//! Addresses that may and may not be connected to, played on loopback: 127.0.0.1 is the internet, 127.0.0.2 a secret.

use super::*;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Answers every connection on the address with the text; how many there were.
fn answering(
    host: &str,
    answer: impl Fn(u16) -> String + Send + 'static,
) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counted.fetch_add(1, Relaxed);
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let _ = stream.write_all(answer(port).as_bytes());
        }
    });
    (port, count)
}

fn whole(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn to(url: &str) -> String {
    format!(
        "HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

fn is_internet(address: IpAddr) -> bool {
    address == IpAddr::from([127, 0, 0, 1])
}

/// What becomes of an image's address.
fn fetched(find: Find, url: &str) -> Result<String, String> {
    let fetch = Fetch::within(is_internet, find, Duration::from_secs(20), 1 << 20)?;
    let mut body = json!({"messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": url}}]}]});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let filled = runtime.block_on(fetch.fill(&mut body, 1, |_| Ok(())));
    filled.map_err(|error| error.object()["error"]["message"].as_str().unwrap().to_owned())?;
    Ok(body["messages"][0]["content"][0]["image_url"]["url"].as_str().unwrap().to_owned())
}

/// A name that means these, one after the other, and the last from then on.
fn names(meanings: &'static [&'static [[u8; 4]]]) -> (Find, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let find: Find = Arc::new(move |name: &str| {
        assert_eq!(name, "pictures.test");
        let now = count.fetch_add(1, Relaxed).min(meanings.len() - 1);
        Ok(meanings[now].iter().map(|&address| SocketAddr::from((address, 0))).collect())
    });
    (find, asked)
}

const INTERNET: [u8; 4] = [127, 0, 0, 1];
const SECRET: [u8; 4] = [127, 0, 0, 2];

#[test]
fn what_is_public_is_downloaded() {
    let (port, _) = answering("127.0.0.1", |_| whole("hi"));
    let (find, _) = names(&[&[INTERNET]]);
    let wanted = Ok("data:;base64,aGk=".to_owned());
    assert_eq!(fetched(find, &format!("http://pictures.test:{port}/a.png")), wanted);
    assert_eq!(fetched(system(), &format!("HTTP://127.0.0.1:{port}")), wanted);
}

#[test]
fn what_is_not_public_is_never_connected_to() {
    let (port, secret) = answering("127.0.0.2", |_| whole("secret"));
    let (find, asked) = names(&[&[SECRET]]);
    let (mixed, _) = names(&[&[INTERNET, SECRET]]);
    for (find, url) in [
        (find, format!("http://pictures.test:{port}/")),
        // One of its addresses is enough to refuse it.
        (mixed, format!("http://pictures.test:{port}/")),
        (system(), format!("http://127.0.0.2:{port}/")),
        (system(), format!("http://127.2:{port}/")),
        (system(), format!("http://0x7f000002:{port}/")),
        (system(), format!("http://[::ffff:127.0.0.2]:{port}/")),
    ] {
        let told = fetched(find, &url).unwrap_err();
        assert!(told.contains("not a public one"), "{url}: {told}");
    }
    assert_eq!((secret.load(Relaxed), asked.load(Relaxed)), (0, 1));
}

#[test]
fn a_redirect_is_held_to_the_same() {
    let (port, secret) = answering("127.0.0.2", |_| whole("secret"));
    for target in [
        format!("http://127.0.0.2:{port}/"),
        format!("//127.0.0.2:{port}/"),
        format!("http://[::ffff:7f00:2]:{port}/"),
    ] {
        let (public, seen) = answering("127.0.0.1", move |_| to(&target));
        let told = fetched(system(), &format!("http://127.0.0.1:{public}/")).unwrap_err();
        assert!(told.contains("not a public one"), "{told}");
        assert_eq!(seen.load(Relaxed), 1);
    }
    assert_eq!(secret.load(Relaxed), 0);
}

/// A name that is public when it is looked at and private when it is connected to.
#[test]
fn a_name_that_changes_its_meaning_gains_nothing() {
    // The secret listens on the same port, and would answer.
    let (port, secret) = answering("127.0.0.2", |_| whole("secret"));
    let public = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let redirecting = std::thread::spawn(move || {
        let (mut stream, _) = public.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        lines.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
        stream.write_all(to("/again").as_bytes()).unwrap();
    });
    let (find, asked) = names(&[&[INTERNET], &[SECRET]]);
    let told = fetched(find, &format!("http://pictures.test:{port}/")).unwrap_err();
    assert!(told.contains("not a public one"), "{told}");
    redirecting.join().unwrap();
    // Once for each connection: what is checked is what is connected to.
    assert_eq!((asked.load(Relaxed), secret.load(Relaxed)), (2, 0));
}

#[test]
fn addresses_in_other_places_are_left_alone() {
    let mut body = json!({"messages": [
        {"role": "system", "content": [{"image_url": "http://a"}]},
        {"role": "user", "content": "http://a"},
        {"role": "user", "content": [{"text": "http://a"}, {"image_url": "data:,x"}, {"image_url": {"url": 1}},
            {"image_url": " HTTPS://b"}, {"image_url": {"url": "http://c"}}]},
    ], "url": "http://a"});
    let found: Vec<(String, String)> =
        wanted(&mut body).into_iter().map(|(place, url)| (place, url.clone())).collect();
    let place = |part: usize| format!("messages[2].content[{part}].image_url");
    assert_eq!(found, [(place(3), " HTTPS://b".into()), (place(4), "http://c".into())]);
    assert!(wanted(&mut json!([1])).is_empty() && wanted(&mut json!({"messages": 1})).is_empty());
}
