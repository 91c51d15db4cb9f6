//! Small ONNX files made by hand, and those of the fixtures.

use proptest::prelude::*;

use super::*;

const MIXED: &[u8] = include_bytes!("../../../tests/fixtures/models/mixed.onnx");
const BLOCKS: &[u8] = include_bytes!("../../../tests/fixtures/models/blocks-4.onnx");

/// A field that holds bytes.
fn bytes(number: u8, value: &[u8]) -> Vec<u8> {
    assert!(number < 32 && value.len() < 128, "a varint of one byte for tags below 16, of two from there");
    let tag = u16::from(number) << 3 | 2;
    let mut field = if tag < 128 { vec![tag as u8] } else { vec![tag as u8 | 0x80, (tag >> 7) as u8] };
    field.push(value.len() as u8);
    field.extend_from_slice(value);
    field
}

fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn model(opset: u8, graph: &[u8]) -> Vec<u8> {
    [number(1, 8), bytes(8, &[bytes(1, b""), number(2, opset)].concat()), bytes(7, graph)].concat()
}

fn tensor_outside(location: &str) -> Vec<u8> {
    let entry = [bytes(1, b"location"), bytes(2, location.as_bytes())].concat();
    [bytes(8, b"matrix"), bytes(13, &entry), number(14, 1)].concat()
}

#[test]
fn a_file_says_what_it_takes_and_gives() {
    let file = OnnxFile::read(BLOCKS).unwrap();
    let tensor = |name: &str, element_type, shape: &[Option<i64>]| TensorInfo {
        name: name.to_owned(),
        element_type,
        shape: shape.to_owned(),
    };
    assert_eq!(file.inputs, [tensor("image", 2, &[None, Some(16), Some(16), Some(3)])]);
    assert_eq!(file.outputs, [tensor("embedding", 1, &[None, Some(48)])]);
    assert_eq!((file.opset, file.external.len()), (13, 0));
    assert_eq!(OnnxFile::read(MIXED).unwrap().external, [PathBuf::from("mixed.weights")]);
}

#[test]
fn operator_sets_that_cannot_be_run_are_refused_with_those_that_can() {
    let refused = OnnxFile::read(&model(99, b"")).unwrap_err();
    assert_eq!(refused, OnnxFileError::Opset(99));
    assert!(refused.to_string().contains("operator set 99; those from 7 to"), "{refused}");
    assert_eq!(OnnxFile::read(&model(6, b"")), Err(OnnxFileError::Opset(6)));
    for opset in OPSETS {
        assert_eq!(OnnxFile::read(&model(opset as u8, b"")).unwrap().opset, opset);
    }
}

#[test]
fn operators_from_elsewhere_are_refused_wherever_they_stand() {
    let node = |domain: &str| bytes(1, &bytes(7, domain.as_bytes()));
    assert_eq!(
        OnnxFile::read(&model(17, &node("my.kernels"))),
        Err(OnnxFileError::CustomOperators("my.kernels".to_owned()))
    );
    let in_a_branch = bytes(1, &bytes(5, &bytes(6, &node("my.kernels"))));
    assert!(OnnxFile::read(&model(17, &in_a_branch)).is_err());
    let defined_here = [model(17, &node("my.kernels")), bytes(25, &bytes(10, b"my.kernels"))].concat();
    OnnxFile::read(&defined_here).unwrap();
    OnnxFile::read(&model(17, &node("com.microsoft"))).unwrap();
}

#[test]
fn weights_stay_in_the_folder() {
    let outside = |location: &str| OnnxFile::read(&model(17, &bytes(5, &tensor_outside(location))));
    assert_eq!(outside("./a/b.bin").unwrap().external, [PathBuf::from("a/b.bin")]);
    for location in ["../b.bin", "/etc/b.bin", "a/../../b.bin", "", "."] {
        assert!(matches!(outside(location), Err(OnnxFileError::Escape(_))), "{location}");
    }
    let in_a_constant = bytes(1, &bytes(5, &bytes(5, &tensor_outside("../b.bin"))));
    assert!(matches!(OnnxFile::read(&model(17, &in_a_constant)), Err(OnnxFileError::Escape(_))));
}

#[test]
fn weights_among_the_inputs_are_none() {
    let info = |name: &[u8]| bytes(11, &bytes(1, name));
    let graph = [info(b"image"), info(b"matrix"), bytes(5, &bytes(8, b"matrix"))].concat();
    let names: Vec<String> =
        OnnxFile::read(&model(9, &graph)).unwrap().inputs.into_iter().map(|input| input.name).collect();
    assert_eq!(names, ["image"]);
}

#[test]
fn what_is_no_model_is_refused() {
    let mut deep = Vec::new();
    for _ in 0..12 {
        deep = bytes(1, &bytes(5, &bytes(6, &deep)));
    }
    OnnxFile::read(&model(17, &deep)).unwrap();
    for not in [&b""[..], b"garbage", &model(17, b"")[..5], &number(1, 8), &BLOCKS[..BLOCKS.len() - 1]] {
        assert_eq!(OnnxFile::read(not), Err(OnnxFileError::Malformed));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..BLOCKS.len(), byte: u8) {
        let _ = OnnxFile::read(&bytes);
        let mut damaged = BLOCKS.to_vec();
        damaged[at] = byte;
        let _ = OnnxFile::read(&damaged);
        let _ = OnnxFile::read(&BLOCKS[..at]);
    }
}
