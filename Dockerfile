# ROS 2 Jazzy with motion_predictor_ros, for x86-64 and arm64. Not built where the package is tested:
# see QUALITY_DECLARATION.md.
#   docker build -t motion_predictor_ros .
#   docker buildx build --platform linux/amd64,linux/arm64 -t motion_predictor_ros .
#   docker run --rm --net=host motion_predictor_ros ros2 launch motion_predictor_ros predictor.launch.py
FROM ros:jazzy

RUN apt-get update && apt-get install -y --no-install-recommends python3-venv \
    ros-jazzy-diagnostic-msgs ros-jazzy-nav-msgs ros-jazzy-sensor-msgs ros-jazzy-shape-msgs \
    ros-jazzy-tf2-ros-py ros-jazzy-visualization-msgs ros-jazzy-ros2launch \
    && rm -rf /var/lib/apt/lists/*

# Some libraries are newer than Ubuntu's. System packages stay visible: rclpy is one of them.
# PIP_OPTIONS: an index that has torch without CUDA, say.
ARG PIP_OPTIONS=
WORKDIR /workspace
COPY requirements.txt src/motion_predictor_ros/
RUN python3 -m venv --system-site-packages .venv && touch .venv/COLCON_IGNORE \
    && .venv/bin/pip install --no-cache-dir ${PIP_OPTIONS} -r src/motion_predictor_ros/requirements.txt

# colcon installs, and compiles the kernels for this machine's processor (CMakeLists.txt, WARM_UP).
# On another kind of processor the first start compiles them again, in the container's user's cache.
COPY . src/motion_predictor_ros
RUN . /opt/ros/jazzy/setup.sh && . .venv/bin/activate \
    && colcon build --cmake-args -DBUILD_TESTING=OFF -DPython3_EXECUTABLE=/workspace/.venv/bin/python

RUN printf '%s\n' '#!/bin/bash' 'set -e' '. /workspace/.venv/bin/activate' \
    '. /opt/ros/jazzy/setup.bash' '. /workspace/install/setup.bash' 'exec "$@"' > /entrypoint.sh \
    && chmod +x /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "motion_predictor_ros", "predictor.launch.py"]
