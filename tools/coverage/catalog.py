"""Which networks are measured, and at which input size."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """One network of the zoo.

    Attributes:
        name: Its name in the source's own table, or the stem of a ready file.
        source: `pytorchcv`, `plain` (tools/coverage/nets), `torchvision`, `timm` or `file`.
        inputs: Shapes of the inputs without the batch axis; empty for ready files.
        file: The ready file.
        shown: Name on the page, where `name` alone would not say enough.
        shapes: Inputs of a ready file that does not run at the sizes that are tried by default.
    """

    name: str
    source: str
    inputs: tuple[Shape, ...] = ()
    file: str = ""
    shown: str = ""
    shapes: tuple[tuple[str, Shape], ...] = ()

    @property
    def label(self) -> str:
        """Name on the page."""
        return self.shown or self.name


# Name and input size; the order is that of running: what coupling is hardest for comes first.
_IMAGE_NETS = """
resnet18 224 | shufflenet_g3_w1 224 | shufflenetv2_w1 224 | dpn68 224 | resnesta18 224
sknet50 224 | condensenet74_c4_g4 224 | cbam_resnet18 224 | bam_resnet18 224 | ghostnet 224
igcv3_w1 224 | densenet121 224 | hrnet_w18_small_v1 224 | dla34 224 | fishnet99 224
nasnet_4a1056 224 | efficientnet_b0 224 | regnety004 224 | mobilenetv2_w1 224
mobilenetv3_large_w1 224 | octresnet10_ad2 224 | mixnet_s 224 | espnetv2_wd2 224
menet228_12x1_g3 224 | squeezenet_v1_0 224 | peleenet 224 | vovnet39 224 | xception 299
inceptionv3 299 | ibn_resnet50 224 | seresnet18 224 | centernet_resnet18_voc 256
simplepose_resnet18_coco 256x192 | lwopenpose2d_mobilenet_cmupan_coco 184
deeplabv3_resnetd50b_voc 240 | unet_cityscapes 128x256 | resnet50 224 | bn_vgg16 224
mobilenet_w1 224 | resnext50_32x4d 224 | senet28 224 | wrn50_2 224 | preresnet18 224
diracnet18v2 224 | airnet50_1x64d_r16 224 | bagnet9 224 | darknet53 224 | selecsls42 224
spnasnet 224 | mnasnet_b1 224 | proxylessnas_gpu 224 | fbnet_cb 224 | hardnet39ds 224
danet_resnetd50b_cityscapes 240 | pspnet_resnetd50b_voc 240 | fastscnn_cityscapes 128x256
cgnet_cityscapes 128x256 | lednet_cityscapes 128x256 | bisenet_resnet18_celebamaskhq 256x192
icnet_resnetd50b_cityscapes 224 | sinet_cityscapes 128x256 | dabnet_cityscapes 128x256
revnet38 224 | rir_cifar10 32 | ror3_56_cifar10 32 | nin_cifar10 32
pyramidnet110_a48_cifar10 32 | shakeshakeresnet20_2x16d_cifar10 32 | sharesnet18 224
sqnxt23_w1 224 | inceptionv4 299 | darts 224 | scnet50 224 | tresnet_m 224 | channelnet 224
msdnet22 224 | dicenet_wd2 224 | sparsenet121 224 | resattnet56 224 | diaresnet18 224
isqrtcovresnet18 224 | xdensenet121_2 224 | drnd22 224 | bninception 224 | alexnet 224
vgg11 224 | fractalnet_cifar10 32 | shakedropresnet20_cifar10 32 | irevnet301 224
resneta18 224 | resnetd50b 224 | regnetx002 224 | efficientnet_edge_small_b 224
squeezeresnet_v1_0 224 | sepreresnet18 224 | seresnext50_32x4d 224 | darknet_ref 224
inceptionresnetv2 299 | lffd20x5s320v2_widerface 320 | prnet 256 | pfpcnet 320x240
ibppose_coco 256 | alphapose_fastseresnet101b_coco 256x192 | fcn8sd_resnetd50b_voc 240
edanet_cityscapes 128x256 | enet_cityscapes 128x256 | erfnet_cityscapes 128x256
esnet_cityscapes 128x256 | espcnet_cityscapes 128x256 | fpenet_cityscapes 128x256
ctxnet_cityscapes 128x256 | linknet_cityscapes 128x256 | segnet_cityscapes 128x256
sqnet_cityscapes 128x256 | lwopenpose3d_mobilenet_cmupan_coco 184 | ntsnet_cub 448
pnasnet5large 331 | polynet 331
"""

_OTHER_NETS: tuple[Network, ...] = (
    Network("superpointnet", "pytorchcv", ((1, 120, 160),)),
    Network("quartznet5x5_en_ls", "pytorchcv", ((64, 256),)),
    Network("jasper5x3", "pytorchcv", ((64, 128),)),
    Network("voca8flame", "pytorchcv", ((1, 16, 29),)),
)

_PLAIN_NETS: tuple[Network, ...] = (
    Network("yolov5n", "plain", ((3, 320, 320),)),
    Network("yolov8n", "plain", ((3, 320, 320),)),
    Network("convnext_tiny", "plain", ((3, 224, 224),)),
    Network("repvgg_a0", "plain", ((3, 224, 224),)),
    Network("res2net50_26w_4s", "plain", ((3, 224, 224),)),
    Network("unet", "plain", ((3, 128, 128),)),
    Network("crnn", "plain", ((1, 32, 128),)),
    Network("vit_tiny", "plain", ((3, 224, 224),)),
)

_SHAPES: dict[str, tuple[tuple[str, Shape], ...]] = {
    "en_PP-OCRv4_rec_infer": (("x", (1, 3, 48, 320)),),
    "ch_PP-OCRv4_rec_infer": (("x", (1, 3, 48, 320)),),
    "ch_PP-OCRv2_rec_infer": (("x", (1, 3, 32, 320)),),
    "melspectrogram": (("input", (1, 16000)),),
}

_TORCHVISION = "googlenet mnasnet0_5 shufflenet_v2_x1_0 convnext_tiny swin_t regnet_x_400mf"
_TIMM = "res2net50_26w_4s repvgg_a0 convnext_tiny ghostnetv2_100 mobileone_s0 hrnet_w18_small"


def networks(packages: Path | None) -> tuple[Network, ...]:
    """Every network that can be had here, in running order.

    Args:
        packages: Folder of unpacked packages whose .onnx files join the zoo.

    Returns:
        The networks.
    """
    image = [_image_net(entry) for row in _IMAGE_NETS.split("\n") for entry in row.split("|")]
    first = [net for net in image if net is not None]
    half = 36  # the own networks run before the long tail of image classifiers
    found = [*first[:half], *_PLAIN_NETS, *first[half:], *_OTHER_NETS]
    for source, names in (("torchvision", _TORCHVISION), ("timm", _TIMM)):
        if importlib.util.find_spec(source) is not None:
            found += [
                Network(name, source, ((3, 224, 224),), shown=f"{name} ({source})")
                for name in names.split()
            ]
    return (*found, *_ready_files(packages))


def _image_net(entry: str) -> Network | None:
    if not entry.strip():
        return None
    name, size = entry.split()
    sides = [int(side) for side in size.split("x")]
    return Network(name, "pytorchcv", ((3, sides[0], sides[-1]),))


def _ready_files(packages: Path | None) -> list[Network]:
    """The onnx package's own light models, and what lies in `packages`."""
    spec = importlib.util.find_spec("onnx")
    found: list[Path] = []
    if spec is not None and spec.origin is not None:
        light = Path(spec.origin).parent / "backend" / "test" / "data" / "light"
        found += sorted(light.glob("light_*.onnx"))
    if packages is not None:
        found += sorted(packages.rglob("*.onnx"))
    return [
        Network(path.stem, "file", file=str(path), shapes=_SHAPES.get(path.stem, ()))
        for path in found
    ]
