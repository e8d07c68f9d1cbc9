# SPDX-License-Identifier: Apache-2.0
"""The node in the hands of a lifecycle manager, and with models and parameters that fail."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from lifecycle_msgs.msg import Transition
from motion_predictor_ros.msg import PredictedMotionArray, SkeletonArray
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from ros.graph import PERIOD_NS, START_NS, WINDOW, Diagnostics, Graph, Process, skeletons, stamp_ns
from visualization_msgs.msg import MarkerArray

Launch = Callable[..., Process]


@pytest.fixture(scope='module')
def node(launch: Launch, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Process:
    overrides = {
        '/markers': {'publisher': {'reliability': 'best_effort'}},
        '/skeletons': {'subscription': {'reliability': 'reliable'}},
    }
    weights = {'weights': str(model)}
    given = {'auto_activate': False, 'prediction': weights, 'qos_overrides': overrides}
    path = tmp_path_factory.mktemp('lifecycle') / 'mine.yaml'
    path.write_text(yaml.safe_dump({'motion_predictor': {'ros__parameters': given}}))
    process = launch('predictor_node', '--ros-args', '--params-file', str(path))
    process.wait_for('waiting to be configured')
    return process


def test_the_node_publishes_only_while_active(graph: Graph, node: Process) -> None:
    received = graph.collect(PredictedMotionArray, '/predicted_motion')
    assert graph.state() == 'unconfigured'
    assert graph.transition('configure') and graph.state() == 'inactive'
    assert graph.node.count_subscribers('/skeletons') == 0
    graph.walk(START_NS, count=3)
    assert graph.transition('activate') and graph.state() == 'active'
    graph.wait_for_input()
    graph.spin(0.3)
    assert received == []
    graph.match()
    graph.walk(START_NS)
    graph.until(lambda: received)
    assert graph.transition('deactivate') and graph.state() == 'inactive'
    last_ns = graph.walk(START_NS + WINDOW * PERIOD_NS)
    graph.spin(0.3)
    assert all(stamp_ns(message) <= last_ns - WINDOW * PERIOD_NS for message in received)


def test_reactivating_forgets_everybody(graph: Graph, node: Process) -> None:
    received = graph.collect(PredictedMotionArray, '/predicted_motion')
    assert graph.transition('activate')
    graph.wait_for_input()
    graph.walk(START_NS + WINDOW * PERIOD_NS, count=3)
    graph.until(lambda: received)
    assert received[-1].persons[0].validity == received[-1].persons[0].WARMING_UP
    assert graph.transition('deactivate')


def test_a_transition_that_is_not_possible_is_refused_and_the_node_lives(
    graph: Graph, node: Process
) -> None:
    assert graph.state() == 'inactive'
    assert not graph.transition_by_id(Transition.TRANSITION_CONFIGURE)
    assert not graph.transition('nonsense')
    assert graph.state() == 'inactive'


def test_parameters_can_change_after_cleanup_only(graph: Graph, node: Process) -> None:
    assert not graph.set('queue', 20).successful
    assert graph.transition('cleanup') and graph.state() == 'unconfigured'
    assert graph.set('queue', 20).successful
    assert graph.get(['queue'])[0].integer_value == 20


@pytest.mark.parametrize('fault', ['missing', 'damaged', 'alien'])
def test_weights_that_cannot_be_used_leave_the_node_unconfigured_and_alive(
    graph: Graph, node: Process, model: Path, tmp_path: Path, fault: str
) -> None:
    path = tmp_path / f'{fault}.safetensors'
    whole = model.read_bytes()
    if fault != 'missing':
        path.write_bytes(whole[: len(whole) // 2] if fault == 'damaged' else b'not a model')
    assert graph.set('prediction.weights', str(path)).successful
    assert not graph.transition('configure')
    assert graph.state() == 'unconfigured'
    node.wait_for(f'{fault}.safetensors')
    figures = Diagnostics(graph).next()
    assert str(path) in figures['message'] and figures['level'] == '2'


def test_a_layout_and_a_device_that_do_not_fit_are_named(
    graph: Graph, node: Process, model: Path
) -> None:
    assert graph.set('prediction.weights', str(model)).successful
    for name, wrong, right in (
        ('prediction.device', 'cuda:99', 'auto'),
        ('skeleton.layout', 'octopus', 'body18'),
    ):
        assert graph.set(name, wrong).successful
        assert not graph.transition('configure')
        node.wait_for(wrong)
        assert graph.set(name, right).successful
    assert graph.transition('configure')


def test_qos_is_overridden_for_the_named_topic_only(graph: Graph, node: Process) -> None:
    def offered(topic: str) -> list[ReliabilityPolicy]:
        found = graph.node.get_publishers_info_by_topic(topic)
        return [each.qos_profile.reliability for each in found]

    assert graph.state() == 'inactive'  # for the second time, so that nothing may have leaked
    graph.until(lambda: offered('/markers') and offered('/predicted_motion'))
    assert offered('/markers') == [ReliabilityPolicy.BEST_EFFORT]
    assert offered('/predicted_motion') == [ReliabilityPolicy.RELIABLE]


def test_who_cannot_be_heard_or_cannot_hear_for_their_qos_is_named(
    graph: Graph, node: Process
) -> None:
    assert 'incompatible' not in Diagnostics(graph).next()['message']
    assert graph.transition('activate')
    graph.node.create_publisher(SkeletonArray, '/skeletons', qos_profile_sensor_data)
    graph.collect(MarkerArray, '/markers')  # reliable, which the node was told not to be
    for topic in ('/skeletons', '/markers'):
        node.wait_for(f'incompatible_qos {topic}')
    figures = Diagnostics(graph).next()
    assert figures['incompatible_qos./skeletons RELIABILITY'] == '1'
    assert figures['level'] == '1'
    assert '/markers RELIABILITY, /skeletons RELIABILITY' in figures['message']
    assert graph.transition('deactivate')


def test_cycles_under_load_add_no_thread_and_nothing_is_published_while_inactive(
    graph: Graph, node: Process
) -> None:
    received = graph.collect(PredictedMotionArray, '/predicted_motion', 1000)
    now_ns = START_NS + 10**13

    def people() -> None:
        nonlocal now_ns
        now_ns += PERIOD_NS
        graph.publish(skeletons(now_ns, ('anna', 'ben')))

    def threads() -> int:
        return len(list(Path(f'/proc/{node.pid}/task').iterdir()))

    assert graph.transition('cleanup')
    camera = graph.node.create_timer(PERIOD_NS / 1e9, people)
    quiet, active, idle = list[tuple[int, int]](), list[int](), list[int]()
    for _ in range(6):
        begin_ns = now_ns
        assert graph.transition('configure')
        quiet.append((begin_ns, now_ns))
        assert graph.transition('activate')
        begin_ns = now_ns
        graph.until(lambda begin_ns=begin_ns: received and stamp_ns(received[-1]) > begin_ns)
        active.append(threads())
        assert graph.transition('deactivate')
        begin_ns = now_ns
        graph.spin(0.4)
        assert graph.transition('cleanup')
        quiet.append((begin_ns, now_ns))
        idle.append(threads())
    graph.node.destroy_timer(camera)
    assert all(end_ns - begin_ns > PERIOD_NS for begin_ns, end_ns in quiet[1::2])
    stamps_ns = [stamp_ns(message) for message in received]
    assert not [ns for ns in stamps_ns for begin, end in quiet if begin < ns <= end]
    graph.until(lambda: threads() <= idle[1], what='as few threads as after two cycles')
    assert min(active) > threads()  # the control: a thread is seen
    assert graph.transition('configure')


def test_a_topic_that_cannot_be_leaves_the_node_inactive(graph: Graph, node: Process) -> None:
    assert graph.transition('cleanup')
    assert graph.set('input_topic', 'no topic!').successful
    assert graph.transition('configure')
    assert not graph.transition('activate')
    assert graph.state() == 'inactive'
    assert 'cannot activate' in node.output


def test_shutdown_is_possible_and_sigterm_ends_the_process(graph: Graph, node: Process) -> None:
    assert graph.transition('shutdown') and graph.state() == 'finalized'
    code, seconds = node.stop(signal.SIGTERM)
    assert code == 0 and seconds < 0.6
    assert 'Traceback' not in node.output


@pytest.mark.parametrize('override', ['reliability:=sometimes', 'depth:=-3'])
def test_a_qos_override_that_cannot_be_is_an_error_that_names_the_topic(
    launch: Launch, model: Path, override: str
) -> None:
    given = [f'prediction.weights:={model}', 'density.enabled:=never']
    given += [f'qos_overrides./markers.publisher.{override}']
    options = [word for each in given for word in ('-p', each)]
    process = launch('predictor_node', '--ros-args', *options)
    process.wait_for("cannot configure: topic 'markers': ")
    assert 'qos_overrides' in process.output and process.alive
    process.stop()


STRUCK_IN_A_FINALISER = """
import os, signal, time
from motion_predictor_ros.ros.process import broken_off_by_signals, ros

class Struck:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):
            pass  # here Python calls the handler

with ros([]):
    with broken_off_by_signals():
        Struck()
        time.sleep(30.0)
        print('went on')
"""


def test_a_signal_within_a_finaliser_breaks_off_all_the_same() -> None:
    done = subprocess.run(
        [sys.executable, '-c', STRUCK_IN_A_FINALISER], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and 'went on' not in done.stdout
    assert 'Traceback' not in done.stderr  # the control: raised there, it is printed and lost


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_breaks_loading_off(launch: Launch, number: signal.Signals) -> None:
    process = launch('predictor_node', '--ros-args', '-p', 'volume.enabled:=always')
    process.wait_for('loading')
    code, _ = process.stop(number)
    assert code == 0
    assert 'ready after' not in process.output and 'Traceback' not in process.output


def test_a_signal_just_before_ros_handles_signals_is_not_lost(
    processes: Callable[..., Process],
) -> None:
    """Launched nodes that a Ctrl-C missed would go on for ever. Control: no signal."""
    script = (
        'import os, signal, rclpy\n'
        'init = rclpy.init\n'
        'def signalled(**options):\n'
        '    os.kill(os.getpid(), signal.Signals[os.environ["NUMBER"]])\n'
        '    init(**options)\n'
        'rclpy.init = signalled if os.environ["NUMBER"] else init\n'
        'from motion_predictor_ros.ros.predictor_node import main\n'
        'raise SystemExit(main())'
    )
    command = [sys.executable, '-c', script, '--ros-args', '-p', 'auto_activate:=false']
    missed, usual = (processes(command, {'NUMBER': number}) for number in ('SIGINT', ''))
    assert missed.wait() == 0 and missed.output == ''
    usual.wait_for('waiting to be configured')


@pytest.mark.parametrize('executable', ['predictor_node', 'monitor_node'])
def test_a_misspelt_parameter_is_logged_with_the_nearest_name_and_others_are_not(
    launch: Launch, tmp_path: Path, executable: str
) -> None:
    path = tmp_path / 'people.yaml'
    names = '{sourse: zed, score.memory_s: 60.0, use_sim_time: false, auto_activate: false}'
    path.write_text(f'/**: {{ros__parameters: {names}}}')
    process = launch(executable, '--ros-args', '--params-file', str(path))
    process.wait_for("unknown parameter 'sourse': is 'source' meant?")
    assert process.output.count('unknown parameter') == 1


def test_a_start_that_cannot_be_is_one_clear_error(launch: Launch) -> None:
    starts = {
        'prediction.max_steps': ['-p', 'prediction.max_steps:=1000'],
        '/no/such.yaml': ['--params-file', '/no/such.yaml'],
    }
    running = {
        said: launch('predictor_node', '--ros-args', *args) for said, args in starts.items()
    }
    for said, process in running.items():
        assert process.wait() == 2
        assert said in process.output and 'Traceback' not in process.output
