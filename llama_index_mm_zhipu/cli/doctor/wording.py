"""All texts of the checks, in two languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llama_index_mm_zhipu.types import Language

ISSUES = "https://github.com/llama-index-mm-zhipu/llama-index-mm-zhipu/issues"
KEYS_AT = "https://open.bigmodel.cn"


@dataclass(frozen=True)
class Wording:
    """The texts of one language. Most are templates for ``str.format``.

    Attributes named ``…_advice`` say what to do; ``titles`` has the name of each check by its key, and ``reasons`` the
    reasons for which a host cannot be reached.
    """

    titles: Mapping[str, str]
    comma: str
    semicolon: str
    crashed: str
    crashed_advice: str

    # Installation
    python: str
    python_old_advice: str
    package: str
    torch_missing: str
    torch_versions: str
    torch_too_old: str
    torch_other_version: str
    torch_other_build: str
    torch_not_importable: str
    torch_timeout: str
    torch_timeout_advice: str
    torch_no_gpu: str
    torch_no_gpu_advice: str
    run: str
    openvino: str
    openvino_missing: str
    openvino_not_needed: str
    openvino_not_importable: str
    extras_installed: str
    extras_missing: str
    none: str
    libreoffice: str
    libreoffice_missing: str
    font: str
    font_missing: str

    # Machine
    memory: str
    memory_total: str
    memory_unknown: str
    memory_low_advice: str
    cores: str
    cores_limited: str
    disk: str
    disk_unknown: str
    disk_store: str
    disk_weights: str
    disk_temporary: str
    disk_low_advice: str
    disk_full_advice: str

    # Network
    no_proxies: str
    proxies_socks_advice: str
    not_asked: str
    answers: str
    answers_with: str
    does_not_answer: str
    through_proxy: str
    reasons: Mapping[str, str]

    # Weights
    weights: str
    weights_absent: str
    weights_absent_advice: str
    weights_part: str
    weights_unknown: str
    weights_unknown_advice: str
    weights_unusable: str
    weights_unusable_advice: str
    weights_lfs: str
    weights_lfs_advice: str
    weights_empty: str
    weights_again_advice: str
    download_size: str
    download_offline: str
    download_offline_advice: str
    download_first_advice: str
    download_advice: str

    # Key and address
    key: str
    key_missing: str
    key_missing_advice: str
    key_invalid: str
    key_invalid_advice: str
    key_unusual: str
    key_unusual_advice: str
    endpoint_invalid: str
    endpoint_invalid_advice: str
    endpoint_advice: str
    endpoint_later_advice: str

    # Index
    store_absent: str
    store_absent_advice: str
    store_incomplete: str
    store_incomplete_advice: str
    store_counts: str
    store_empty_file: str
    store_damaged: str
    store_damaged_advice: str
    store_unreadable: str
    store_unreadable_advice: str
    store_intact: str
    store_not_checked: str
    store_newer: str
    store_newer_advice: str
    store_older: str
    store_older_read_only_advice: str
    store_writable: str
    store_read_only: str
    store_in_use: str
    store_log: str
    store_log_advice: str
    store_changed: str
    store_changed_advice: str
    store_model: str
    store_model_likely: str
    store_other_model: str
    store_other_model_advice: str
    store_other_weights_advice: str


_ZH = Wording(
    titles={
        "python": "Python",
        "package": "本包",
        "torch": "PyTorch",
        "openvino": "OpenVINO",
        "extras": "可选依赖",
        "libreoffice": "LibreOffice",
        "font": "中文字体",
        "memory": "内存",
        "cores": "CPU",
        "proxies": "代理",
        "weights": "模型权重",
        "download": "下载来源",
        "key": "API 密钥",
        "endpoint": "API 地址",
        "store": "索引",
        "disk": "磁盘空间",
    },
    comma="、",
    semicolon="；",
    crashed="检查时出错：{reason}",
    crashed_advice=f"请先解决这个错误；看不出原因时，请到 {ISSUES} 反馈",
    python="{version}，{platform}，{executable}",
    python_old_advice="请安装 Python 3.10 或更高版本，并新建一个虚拟环境",
    package="llama-index-mm-zhipu {version}，llama-index-core {core}",
    torch_missing="没有安装 {names}",
    torch_versions="torch {torch}，torchvision {torchvision}，计算设备：{device}",
    torch_too_old="torch {torch} 版本不符，本包需要 torch{required}",
    torch_other_version="torchvision {torchvision} 需要 torch{required}，装的却是 torch {torch}",
    torch_other_build="torch {torch} 与 torchvision {torchvision} 不是同一种版本（一个只用 CPU，另一个用 GPU）",
    torch_not_importable="torch {torch} 和 torchvision {torchvision} 无法导入：{reason}",
    torch_timeout="torch {torch} 和 torchvision {torchvision} 在 {seconds} 秒内没有导入完",
    torch_timeout_advice='磁盘或机器可能很忙；请手动运行 python -c "import torch, torchvision"，看它停在哪里',
    torch_no_gpu="torch {torch}，torchvision {torchvision}，只能用 CPU：{reason}",
    torch_no_gpu_advice="要使用 GPU，请更新显卡驱动，或换用与驱动相配的 torch：https://pytorch.org/get-started/locally",
    run="运行：{command}",
    openvino="已安装 {version}，在 CPU 上使用",
    openvino_missing="没有安装，在 CPU 上会改用较慢的 torch",
    openvino_not_needed="没有安装；模型在 {device} 上运行，用不到它",
    openvino_not_importable="已安装，但无法导入：{reason}",
    extras_installed="已安装：{names}",
    extras_missing="未安装：{names}（需要时运行 {command}）",
    none="无",
    libreoffice="{program}",
    libreoffice_missing="没有安装；只有把 .pptx 幻灯片的页面转成图片时才需要",
    font="自带 {name}，绘图时可以显示中文",
    font_missing="安装的包里缺少自带的中文字体文件",
    memory="共 {total}，可用 {available}",
    memory_total="共 {total}，可用多少未知",
    memory_unknown="未知（这个系统上查不到）",
    memory_low_advice="可用内存少于 3 GiB，加载模型时可能不够：请关闭其他程序，或换用较小的模型，如 RN50",
    cores="可用 {available} 个核，共 {total} 个",
    cores_limited="可用 {available} 个线程（由 OMP_NUM_THREADS 限定），共 {total} 个核",
    disk="{what} {folder} 剩余 {free}",
    disk_unknown="{what} {folder} 无法查询：{reason}",
    disk_store="索引目录",
    disk_weights="权重目录",
    disk_temporary="临时目录",
    disk_low_advice="还要下载模型权重，请腾出至少 2 GiB 空间",
    disk_full_advice="空间几乎用尽，请清理后再用；临时目录可以用环境变量 TMPDIR 换到别处",
    no_proxies="没有设置",
    proxies_socks_advice='使用 SOCKS 代理要多装一个包，运行：pip install "httpx[socks]"',
    not_asked="{host}（没有联网检查）",
    answers="{host} 可以连接",
    answers_with="{host} 返回 HTTP {status}",
    does_not_answer="{host} 无法连接：{reason}",
    through_proxy="{reason}（经代理 {proxy}）",
    reasons={
        "name": "域名解析失败",
        "refused": "连接被拒绝",
        "network": "网络不通",
        "timeout": "{seconds} 秒内没有回应",
        "certificate": "证书验证失败",
        "certificates": "SSL_CERT_FILE 或 SSL_CERT_DIR 指定的证书无法读取",
        "proxy": "代理不可用",
        "url": "地址无效",
    },
    weights="{model}：{path}，{size}，指纹 {fingerprint}",
    weights_absent="{model}：{path} 还不存在，首次使用时下载",
    weights_absent_advice=(
        '首次使用时会自动下载；国内网络请先设置 HF_ENDPOINT=https://hf-mirror.com，或用 download_source="modelscope"'
    ),
    weights_part="已下载 {size}，下次接着下载",
    weights_unknown="{model} 既不是已有的文件或文件夹，也不是官方模型名",
    weights_unknown_advice="可用的名称：{names}；也可以给出权重文件或文件夹的路径",
    weights_unusable="{path} 不能用作权重：{reason}",
    weights_unusable_advice="请按上面的原因处理；官方权重损坏时，删除后会重新下载",
    weights_lfs="{path} 只是 git-lfs 的指针文件，不是权重本身",
    weights_lfs_advice="请在 {folder} 里运行 git lfs pull，或重新下载",
    weights_empty="{path} 是空文件",
    weights_again_advice="请删除 {path}，再重新下载",
    download_size="共 {size}",
    download_offline="设置了 HF_HUB_OFFLINE，不会下载权重",
    download_offline_advice="请取消 HF_HUB_OFFLINE，或在别处下载 {filename}，放到 {path}",
    download_first_advice=(
        "程序会自动改用另一个来源；想直接用它，请设置 HF_ENDPOINT=https://hf-mirror.com，"
        '或用 download_source="modelscope"'
    ),
    download_advice=(
        "请设置 HF_ENDPOINT=https://hf-mirror.com，或设置代理（HTTPS_PROXY），或在别处下载 {filename}，放到 {path}"
    ),
    key="已设置 {variable}",
    key_missing="没有设置 ZHIPUAI_API_KEY；检索不需要密钥，回答问题需要",
    key_missing_advice=f"请到 {KEYS_AT} 免费申请密钥，然后设置环境变量 ZHIPUAI_API_KEY",
    key_invalid="{variable} 里有空格或 ASCII 以外的字符，不是有效的密钥",
    key_invalid_advice=f"请到 {KEYS_AT} 重新复制，只复制密钥本身，并且复制完整",
    key_unusual="已设置 {variable}，但不像智谱的密钥（应为“编号.密文”两段，中间一个点）",
    key_unusual_advice=f"请到 {KEYS_AT} 核对密钥；要用自己的服务，请设置 ZHIPUAI_BASE_URL",
    endpoint_invalid="{url} 不是有效的 http(s) 地址",
    endpoint_invalid_advice="请检查 ZHIPUAI_BASE_URL 或 ZAI_BASE_URL；不设置就使用默认地址",
    endpoint_advice="请检查网络、代理（HTTPS_PROXY）和 ZHIPUAI_BASE_URL；检索不受影响，回答问题需要这个地址",
    endpoint_later_advice="服务器或中间的代理出错，请稍后再试",
    store_absent="{folder} 里还没有索引",
    store_absent_advice="请检查路径；如果还没有建索引，请先建",
    store_incomplete="{folder} 里缺少 {name}，索引不完整",
    store_incomplete_advice="请从备份恢复整个文件夹，或换一个文件夹重新建索引",
    store_counts="{images} 张图片，{texts} 段文字",
    store_empty_file="{name} 里没有任何表",
    store_damaged="{name} 已损坏：{reason}",
    store_damaged_advice="请从备份恢复整个文件夹；没有备份时，请换一个文件夹重新建索引",
    store_unreadable="{name} 打不开：{reason}",
    store_unreadable_advice="请检查这个文件的权限，以及它是不是本包的索引",
    store_intact="{name} 完好",
    store_not_checked="{name} 有 {size}，太大，没有检查是否完好",
    store_newer="{name} 由更新的版本写成（结构版本 {version}，当前只认识到 {known}）",
    store_newer_advice="运行：pip install --upgrade llama-index-mm-zhipu",
    store_older="{name} 的结构版本是 {version}，下次打开时升级到 {known}",
    store_older_read_only_advice="索引只读，无法升级；请在可以写入的地方打开一次",
    store_writable="可以写入",
    store_read_only="只读，可以检索，不能添加",
    store_in_use="有别的进程正在使用，或上次没有正常关闭",
    store_log="{name} 旁边有没合并的日志（-wal），内容没有检查",
    store_log_advice="上次没有正常关闭，或文件没有复制完整；正常打开一次索引就会合并",
    store_changed="{name} 在检查时被改动",
    store_changed_advice="有别的进程正在写入，请稍后再检查",
    store_model="模型相符",
    store_model_likely="模型结构相符（本机没有权重，无法比较指纹）",
    store_other_model="索引用的模型是 {recorded}，不是 {model}",
    store_other_model_advice="请用建索引时的模型，或换一个文件夹重新建索引",
    store_other_weights_advice="结构相同，但权重不同：请用建索引时的权重文件，或换一个文件夹重新建索引",
)

_EN = Wording(
    titles={
        "python": "Python",
        "package": "Package",
        "torch": "PyTorch",
        "openvino": "OpenVINO",
        "extras": "Extras",
        "libreoffice": "LibreOffice",
        "font": "Chinese font",
        "memory": "Memory",
        "cores": "CPU",
        "proxies": "Proxies",
        "weights": "Weights",
        "download": "Download",
        "key": "API key",
        "endpoint": "API address",
        "store": "Index",
        "disk": "Disk space",
    },
    comma=", ",
    semicolon="; ",
    crashed="the check itself failed: {reason}",
    crashed_advice=f"solve this error first; if its cause is unclear, report it at {ISSUES}",
    python="{version}, {platform}, {executable}",
    python_old_advice="install Python 3.10 or newer and create a new virtual environment",
    package="llama-index-mm-zhipu {version}, llama-index-core {core}",
    torch_missing="{names} not installed",
    torch_versions="torch {torch}, torchvision {torchvision}, computes on {device}",
    torch_too_old="torch {torch} does not fit: this package needs torch{required}",
    torch_other_version="torchvision {torchvision} needs torch{required}, and torch {torch} is installed",
    torch_other_build="torch {torch} and torchvision {torchvision} are different builds: one for CPUs, one for GPUs",
    torch_not_importable="torch {torch} and torchvision {torchvision} cannot be imported: {reason}",
    torch_timeout="torch {torch} and torchvision {torchvision} were not imported within {seconds} s",
    torch_timeout_advice=(
        'the disk or the machine may be busy; run python -c "import torch, torchvision" to see where it stops'
    ),
    torch_no_gpu="torch {torch}, torchvision {torchvision}, computes on the CPU only: {reason}",
    torch_no_gpu_advice=(
        "to use the GPU, update its driver or install a torch for it: https://pytorch.org/get-started/locally"
    ),
    run="run: {command}",
    openvino="{version} is installed, and is used on CPUs",
    openvino_missing="not installed: on CPUs, torch is used instead, which is slower",
    openvino_not_needed="not installed, and not needed because the model runs on {device}",
    openvino_not_importable="installed, but cannot be imported: {reason}",
    extras_installed="installed: {names}",
    extras_missing="not installed: {names} (if you need them: {command})",
    none="none",
    libreoffice="{program}",
    libreoffice_missing="not installed; only needed to index the slides of .pptx files as images",
    font="{name} is part of the package, so plots can show Chinese",
    font_missing="the Chinese font file of the package is missing",
    memory="{total} in total, {available} available",
    memory_total="{total} in total; how much is available is unknown",
    memory_unknown="unknown on this system",
    memory_low_advice=(
        "less than 3 GiB may not be enough to load a model: close other programs, or take a smaller model such as RN50"
    ),
    cores="{available} of {total} cores may be used",
    cores_limited="{available} threads may be used (OMP_NUM_THREADS), of {total} cores",
    disk="{free} free for {what} in {folder}",
    disk_unknown="unknown for {what} in {folder}: {reason}",
    disk_store="the index",
    disk_weights="weights",
    disk_temporary="temporary files",
    disk_low_advice="the weights are yet to be downloaded: free at least 2 GiB",
    disk_full_advice="there is almost no space left: free some; TMPDIR moves the temporary files elsewhere",
    no_proxies="none set",
    proxies_socks_advice='SOCKS proxies need another package, run: pip install "httpx[socks]"',
    not_asked="{host} (not asked)",
    answers="{host} can be reached",
    answers_with="{host} answers with HTTP {status}",
    does_not_answer="{host} cannot be reached: {reason}",
    through_proxy="{reason} (through the proxy {proxy})",
    reasons={
        "name": "its name cannot be resolved",
        "refused": "connection refused",
        "network": "there is no network route",
        "timeout": "no answer within {seconds} s",
        "certificate": "its certificate is not trusted",
        "certificates": "the certificates in SSL_CERT_FILE or SSL_CERT_DIR cannot be read",
        "proxy": "the proxy cannot be used",
        "url": "not a valid URL",
    },
    weights="{model}: {path}, {size}, fingerprint {fingerprint}",
    weights_absent="{model}: {path} does not exist yet, and is downloaded at the first use",
    weights_absent_advice=(
        "the first use downloads them; if that is slow in China, set HF_ENDPOINT=https://hf-mirror.com or use "
        'download_source="modelscope"'
    ),
    weights_part="{size} are downloaded already, and the next download continues there",
    weights_unknown="{model} is neither an existing file or folder nor the name of an official model",
    weights_unknown_advice="use one of {names}, or the path of a weight file or folder",
    weights_unusable="{path} cannot be used as weights: {reason}",
    weights_unusable_advice="follow the reason above; a damaged official file is downloaded again after you delete it",
    weights_lfs="{path} is a git-lfs pointer, not the weights themselves",
    weights_lfs_advice="run git lfs pull in {folder}, or download the file again",
    weights_empty="{path} is an empty file",
    weights_again_advice="delete {path} and download it again",
    download_size="{size} to download",
    download_offline="HF_HUB_OFFLINE is set, which forbids to download the weights",
    download_offline_advice="unset HF_HUB_OFFLINE, or download {filename} elsewhere and put it at {path}",
    download_first_advice=(
        "the other source is used automatically; to use it at once, set HF_ENDPOINT=https://hf-mirror.com or use "
        'download_source="modelscope"'
    ),
    download_advice=(
        "set HF_ENDPOINT=https://hf-mirror.com, or a proxy (HTTPS_PROXY), or download {filename} elsewhere and put it "
        "at {path}"
    ),
    key="{variable} is set",
    key_missing="ZHIPUAI_API_KEY is not set; searching needs no key, answers need one",
    key_missing_advice=f"get a free key at {KEYS_AT} and set the environment variable ZHIPUAI_API_KEY",
    key_invalid="{variable} holds a blank or a character outside ASCII, which no key has",
    key_invalid_advice=f"copy the key again from {KEYS_AT}: the key alone, and whole",
    key_unusual="{variable} is set, but does not look like a key of Zhipu (id and secret with a dot between them)",
    key_unusual_advice=f"compare it with the key at {KEYS_AT}; for a server of your own, set ZHIPUAI_BASE_URL",
    endpoint_invalid="{url} is not a valid http(s) URL",
    endpoint_invalid_advice="check ZHIPUAI_BASE_URL or ZAI_BASE_URL; without them, the default address is used",
    endpoint_advice=(
        "check the network, the proxy (HTTPS_PROXY) and ZHIPUAI_BASE_URL; searching works without it, answers do not"
    ),
    endpoint_later_advice="the server or a proxy before it has an error; try again later",
    store_absent="no index in {folder} yet",
    store_absent_advice="check the path; if you have not built the index yet, build it",
    store_incomplete="{name} is missing in {folder}: the index is incomplete",
    store_incomplete_advice="restore the whole folder from a backup, or build the index again in another folder",
    store_counts="images: {images}, texts: {texts}",
    store_empty_file="{name} has no tables",
    store_damaged="{name} is damaged: {reason}",
    store_damaged_advice="restore the whole folder from a backup, or build the index again in another folder",
    store_unreadable="{name} cannot be opened: {reason}",
    store_unreadable_advice="check its permissions, and whether it is an index of this package",
    store_intact="{name} is intact",
    store_not_checked="{name} has {size} and was not checked for damage, which would take long",
    store_newer="{name} was written by a newer version (schema {version}; this one knows {known})",
    store_newer_advice="run: pip install --upgrade llama-index-mm-zhipu",
    store_older="{name} has schema {version}; the next opening upgrades it to {known}",
    store_older_read_only_advice="the index is read-only, and must be opened once where it may be written to",
    store_writable="writable",
    store_read_only="read-only: can be searched, not added to",
    store_in_use="in use by another process, or not closed properly",
    store_log="a write-ahead log (-wal) lies beside {name}, whose content was not checked",
    store_log_advice="the index was not closed properly or not copied as a whole; opening it once merges the log",
    store_changed="{name} was changed during the check",
    store_changed_advice="another process is writing to it; check again later",
    store_model="the model matches",
    store_model_likely="the model's architecture matches (without the weights, fingerprints cannot be compared)",
    store_other_model="the index was built with {recorded}, not with {model}",
    store_other_model_advice="use the model of the index, or build the index again in another folder",
    store_other_weights_advice=(
        "the architecture is the same, the weights differ: use the weights that the index was built with, or build the "
        "index again in another folder"
    ),
)

WORDING: dict[Language, Wording] = {"zh": _ZH, "en": _EN}


def wording_of(language: Language) -> Wording:
    """Return the texts of a language.

    Raises:
        ValueError: The language is not known.
    """
    if language not in WORDING:
        raise ValueError(f"language {language!r} is not known; use one of {', '.join(map(repr, WORDING))}")
    return WORDING[language]
