// A long way between two network devices of this machine: rate, delay, loss and cuts, each way alike.
//
//   link DEVICE DEVICE
//
// Makes two TUN devices, which whoever started it puts into two network namespaces, and carries IP
// packets between them. Told by lines on standard input, answered by a line each; ends with its input:
//
//   set RATE_MBIT ONE_WAY_US LOSS QUEUE_MS   rate 0 is none; LOSS is the share of packets that is dropped
//   cut / mend                               carry nothing / go on
//   count            packets, bytes of TCP payload and packets dropped, from the second to the first
//                    device and then the other way
//
// Segments stay together as the kernel gives them to a device that offloads segmentation (up to 64 kB), and
// are charged the time and headers of the packets that they would be: this costs a tenth of the CPU. Where
// packets are to be lost the kernel is asked for single ones, so that one of them is lost and no other.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { HEADER = sizeof(struct virtio_net_hdr), LARGEST = HEADER + 65536, ROOM = 1 << 16 };
enum { FRAME = 38, SEGMENT_HEADERS = 52 };  // Ethernet's around a packet; IP's and TCP's within

struct packet {
   uint64_t due;
   int size;
   char *bytes;
};

struct way {
   int from, to;
   uint64_t free_at, packets, payload, dropped;
   struct packet *queue;
   unsigned head, tail;
};

static double rate_bits, loss;
static uint64_t delay, queue_max = 100000000;
static int is_cut;

static void fail(const char *what)
{
   perror(what);
   exit(1);
}

static int device(const char *name)
{
   struct ifreq request = {0};
   int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
   request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
   strncpy(request.ifr_name, name, IFNAMSIZ - 1);
   if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0)
      fail(name);
   return fd;
}

static uint64_t now(void)
{
   struct timespec t;
   clock_gettime(CLOCK_MONOTONIC, &t);
   return t.tv_sec * 1000000000ull + t.tv_nsec;
}

// Bytes that a packet carries for TCP; 0 of anything else.
static int tcp_payload(const unsigned char *ip, int size)
{
   if (size < 40 || ip[0] >> 4 != 4 || ip[9] != 6)
      return 0;
   int header = (ip[0] & 15) * 4;
   if (size < header + 20)
      return 0;
   return size - header - (ip[header + 12] >> 4) * 4;
}

static void take(struct way *way)
{
   static char bytes[LARGEST];
   for (int k = 0; k < 64; ++k) {
      int size = read(way->from, bytes, sizeof bytes);
      if (size <= HEADER)
         return;
      uint64_t at = now(), start = way->free_at > at ? way->free_at : at;
      int whole = size - HEADER, payload = tcp_payload((unsigned char *)bytes + HEADER, whole);
      int part = ((struct virtio_net_hdr *)bytes)->gso_size;
      int segments = part && payload > part ? (payload + part - 1) / part : 1;
      if (is_cut || (loss > 0 && drand48() < loss) || (rate_bits > 0 && start - at > queue_max) ||
          way->tail - way->head >= ROOM) {
         way->dropped += segments;
         continue;
      }
      if (rate_bits > 0) {
         double wire = whole + (segments - 1) * SEGMENT_HEADERS + segments * FRAME;
         way->free_at = start + (uint64_t)(wire * 8e9 / rate_bits);
      } else
         way->free_at = at;
      struct packet *packet = &way->queue[way->tail++ % ROOM];
      packet->due = way->free_at + delay;
      packet->size = size;
      packet->bytes = malloc(size);
      if (!packet->bytes)
         fail("malloc");
      memcpy(packet->bytes, bytes, size);
      way->packets += segments;
      way->payload += payload;
   }
}

static void give(struct way *way)
{
   uint64_t at = now();
   while (way->head != way->tail) {
      struct packet *packet = &way->queue[way->head % ROOM];
      if (packet->due > at)
         return;
      if (write(way->to, packet->bytes, packet->size) < 0)
         way->dropped++;
      free(packet->bytes);
      way->head++;
   }
}

static void offload(int fd, int on)
{
   unsigned flags = TUN_F_CSUM | (on ? TUN_F_TSO4 | TUN_F_TSO6 : 0);
   if (ioctl(fd, TUNSETOFFLOAD, flags) < 0)
      fail("TUNSETOFFLOAD");
}

static void obey(struct way ways[2])
{
   char line[256];
   double mbit, one_way_us, share, queue_ms;
   if (!fgets(line, sizeof line, stdin))
      exit(0);
   if (sscanf(line, "set %lf %lf %lf %lf", &mbit, &one_way_us, &share, &queue_ms) == 4) {
      rate_bits = mbit * 1e6, delay = one_way_us * 1e3, loss = share, queue_max = queue_ms * 1e6;
      for (int k = 0; k < 2; ++k)
         offload(ways[k].from, loss <= 0);
      puts("ok");
   } else if (!strcmp(line, "cut\n") || !strcmp(line, "mend\n")) {
      is_cut = *line == 'c';
      puts("ok");
   } else if (!strcmp(line, "count\n")) {
      for (int k = 1; k >= 0; --k)
         printf("%llu %llu %llu%c", (unsigned long long)ways[k].packets, (unsigned long long)ways[k].payload,
                (unsigned long long)ways[k].dropped, k ? ' ' : '\n');
   } else
      puts("what?");
}

int main(int count, char **words)
{
   if (count != 3) {
      fprintf(stderr, "link DEVICE DEVICE\n");
      return 2;
   }
   prctl(PR_SET_TIMERSLACK, 1);
   setvbuf(stdin, NULL, _IONBF, 0);
   setvbuf(stdout, NULL, _IOLBF, 0);
   int near = device(words[1]), far = device(words[2]);
   struct way ways[2] = {{.from = near, .to = far}, {.from = far, .to = near}};
   for (int k = 0; k < 2; ++k) {
      ways[k].queue = calloc(ROOM, sizeof(struct packet));
      offload(ways[k].from, 1);
   }
   srand48(1);
   int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
   puts("ok");
   for (;;) {
      uint64_t next = 0;
      for (int k = 0; k < 2; ++k)
         if (ways[k].head != ways[k].tail) {
            uint64_t due = ways[k].queue[ways[k].head % ROOM].due;
            next = !next || due < next ? due : next;
         }
      struct itimerspec wake = {.it_value = {next / 1000000000ull, next % 1000000000ull}};
      timerfd_settime(timer, TFD_TIMER_ABSTIME, &wake, NULL);
      struct pollfd watched[] = {{near, POLLIN, 0}, {far, POLLIN, 0}, {timer, POLLIN, 0}, {0, POLLIN, 0}};
      if (poll(watched, 4, -1) < 0 && errno != EINTR)
         fail("poll");
      if (watched[0].revents & POLLIN)
         take(&ways[0]);
      if (watched[1].revents & POLLIN)
         take(&ways[1]);
      give(&ways[0]);
      give(&ways[1]);
      if (watched[3].revents)
         obey(ways);
   }
}
