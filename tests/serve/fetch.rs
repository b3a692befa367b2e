//! Images by address: refused, or downloaded within bounds. What counts as public is held by `src/serve/fetch`.

use super::{Server, about, demo};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A server of pictures and of trouble; connections to it are counted.
fn pictures() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Relaxed);
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    (address, count)
}

fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let told: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let told = told.join("\n").to_ascii_lowercase();
    assert!(!told.contains("authorization") && !told.contains("cookie"), "{told}");
    let path = first.split(' ').nth(1).unwrap_or_default();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/images/grid-2x2.png");
    let png = std::fs::read(file).unwrap();
    let head = |status: &str, more: &str| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\n{more}\r\n").into_bytes()
    };
    let sized = |bytes: &[u8]| {
        let length = format!("Content-Length: {}\r\n", bytes.len());
        [head("200 OK", &length), bytes.to_vec()].concat()
    };
    let reply = match path {
        "/sign.png" => sized(&png),
        "/words" => sized(b"no picture"),
        "/empty" => sized(b""),
        "/large" => head("200 OK", "Content-Length: 99999999\r\n"),
        // As long as it likes: without a length.
        "/endless" => [head("200 OK", ""), vec![b'x'; 4 << 20]].concat(),
        "/short" => [head("200 OK", "Content-Length: 50\r\n"), b"only this".to_vec()].concat(),
        "/file" => head("302 Found", "Location: file:///etc/passwd\r\n"),
        "/slow" => {
            let _ = stream.write_all(&head("200 OK", "Content-Length: 50\r\n"));
            std::thread::sleep(Duration::from_secs(20));
            return;
        }
        path => match path.strip_prefix("/hops/").map(|hops| hops.parse::<usize>().unwrap()) {
            Some(0) => sized(&png),
            Some(hops) => head("307 Moved", &format!("Location: {}\r\n", hops - 1)),
            None => head("404 Not Found", "Content-Length: 0\r\n"),
        },
    };
    let _ = stream.write_all(&reply);
}

fn refusal(server: &Server, url: &str) -> String {
    let reply = server.chat(&about(url, "what"));
    assert_eq!(reply.status, 400, "{url}: {}", reply.body);
    let error = &reply.json()["error"];
    assert_eq!(
        (&error["code"], &error["param"]),
        (&Value::from("invalid_image"), &Value::from("messages[0].content[0].image_url")),
        "{url}"
    );
    error["message"].as_str().unwrap().to_owned()
}

#[test]
fn this_machine_and_its_network_are_out_of_reach() {
    let (address, connections) = pictures();
    let port = address.rsplit(':').next().unwrap();
    let server = Server::start(&demo(), "--fetch-images");
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
    ] {
        let told = refusal(&server, &format!("http://{host}:{port}/sign.png"));
        assert!(told.contains("not a public one") && told.contains("--fetch-private"), "{told}");
    }
    assert_eq!(connections.load(Relaxed), 0);
    assert!(refusal(&server, "file:///etc/passwd").contains("--media-dir"));
    assert!(refusal(&server, "ftp://127.0.0.1/a").contains("data: URL"));
}

#[test]
fn downloads_have_bounds() {
    let (address, connections) = pictures();
    let options = "--fetch-images --fetch-private --max-body 1MB --fetch-timeout 2 --max-images 2";
    let server = Server::start(&demo(), options);
    let url = |path: &str| format!("http://{address}{path}");
    for path in ["/sign.png", "/hops/0", "/hops/3"] {
        let reply = server.chat(&about(&url(path), "What number is on the yellow sign?"));
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        assert_eq!(reply.json()["choices"][0]["message"]["content"], "78", "{path}");
    }
    for (path, says) in [
        ("/hops/4", "more than 3 times"),
        ("/nothing", "status 404"),
        ("/words", "image"),
        ("/empty", "is empty"),
        ("/large", "larger than 1000000"),
        ("/endless", "larger than 1000000"),
        ("/short", "cannot be downloaded"),
        ("/file", "neither http: nor https:"),
    ] {
        let told = refusal(&server, &url(path));
        assert!(told.contains(says) && !told.contains('\n'), "{path}: {told}");
    }
    assert!(
        refusal(&server, &format!("http://me:secret@{address}/sign.png")).contains("passwords")
    );
    // What answers is no TLS.
    let told = refusal(&server, &format!("https://{address}/sign.png"));
    assert!(told.contains("cannot be downloaded"), "{told}");
    let begun = Instant::now();
    assert!(refusal(&server, &url("/slow")).contains("within 2 s"));
    assert!(begun.elapsed() < Duration::from_secs(15));
    // One image too many: none is downloaded.
    let before = connections.load(Relaxed);
    let mut body = about(&url("/sign.png"), "what");
    let parts = body["messages"][0]["content"].as_array_mut().unwrap();
    *parts = vec![parts[0].clone(), parts[0].clone(), parts[0].clone()];
    let reply = server.chat(&body);
    assert!(reply.status == 400 && reply.body.contains("3 images"), "{}", reply.body);
    assert_eq!(connections.load(Relaxed), before);
    // The memory of what was downloaded is given back.
    for _ in 0..12 {
        assert_eq!(server.chat(&about(&url("/sign.png"), "what")).status, 200);
    }
}
