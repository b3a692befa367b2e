//! What becomes of a model's folder and of an embedder's limits while an engine lives.

use super::*;

#[test]
fn weights_that_are_written_to_while_in_use_are_told_by_name() {
    let dir = model_copy("next-hub");
    let weights = dir.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    let open = |no_mmap| {
        let options = EngineOptions::default().with_device(Device::Cpu).with_no_mmap(no_mmap);
        Engine::load(dir.path(), options).unwrap()
    };
    let (mut mapped, mut read) = (open(false), open(true));
    let answer = mapped.generate(&question(), go).unwrap();
    assert_eq!(read.generate(&question(), go).unwrap().token_ids, answer.token_ids);

    // Another file of its name is not the one that is in use.
    let other = dir.path().join("other");
    std::fs::write(&other, &whole[..whole.len() - 1]).unwrap();
    std::fs::rename(&other, &weights).unwrap();
    assert_eq!(mapped.generate(&question(), go).unwrap().token_ids, answer.token_ids);

    std::fs::write(&weights, &whole).unwrap();
    let mut mapped = open(false);
    let mut longer = std::fs::OpenOptions::new().append(true).open(&weights).unwrap();
    std::io::Write::write_all(&mut longer, b"x").unwrap();
    for refused in [
        mapped.generate(&question(), go).map(|_| ()),
        mapped.select(&picture(90, 50), &Selection::default()).map(|_| ()),
        mapped
            .sweep(&picture(90, 50), &[question()], &[Selection::default()], || {
                ControlFlow::Continue(())
            })
            .map(|_| ()),
        mapped.largest_budget(&[question()], Limit::Memory(1 << 30)).map(|_| ()),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(&error, Error::Model { path, .. } if *path == weights), "{error}");
    }
    assert_eq!(read.generate(&question(), go).unwrap().token_ids, answer.token_ids);
}

#[test]
fn images_have_as_many_pixels_as_the_embedder_allows() {
    let options = EngineOptions::default().with_device(Device::Cpu).with_max_pixels(90 * 50);
    let mut engine = Engine::load(fixture("models").join("next-hub"), options).unwrap();
    engine.generate(&question(), go).unwrap();
    let too_large = Request::new("What is shown?").with_image(picture(91, 50));
    let error = engine.generate(&too_large, go).unwrap_err();
    assert!(matches!(error, Error::Image { .. }) && error.to_string().contains("4500"), "{error}");
    // Without decoders there are no encoded images.
    #[cfg(feature = "image-formats")]
    {
        let bytes = vec![0; hired::image::largest_encoded(90 * 50) + 1];
        let encoded = Image::encoded("long.png", bytes);
        let error = engine.select(&encoded, &Selection::default()).unwrap_err().to_string();
        assert!(error.contains("long.png") && error.contains("bytes"), "{error}");
    }
}

#[test]
fn layers_that_the_configuration_leaves_out_are_told() {
    let notes = |pointer: &str, layers: usize| {
        let dir = model_copy("next-hub");
        let mut stored = 0;
        edit_json(&dir.path().join("config.json"), |json| {
            let place = json.pointer_mut(pointer).unwrap();
            stored = place.as_u64().unwrap() as usize;
            *place = (stored - layers).into();
        });
        let options = EngineOptions::default().with_device(Device::Cpu);
        (Engine::load(dir.path(), options).unwrap().notes().to_vec(), stored)
    };
    for section in ["text_config", "vision_config"] {
        let pointer = format!("/{section}/num_hidden_layers");
        assert!(notes(&pointer, 0).0.is_empty());
        let (told, stored) = notes(&pointer, 1);
        let said = format!("have {stored} layers");
        assert!(
            told.len() == 1 && told[0].contains(section) && told[0].contains(&said),
            "{told:?}"
        );
    }
}
